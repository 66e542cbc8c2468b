//! Tables: from verdicts to settlements.
