//! Cutting bytes into lines: CRLF only, bounded, in any chunks.
