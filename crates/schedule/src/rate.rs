//! Rates: the generic cell rate algorithm by its formula, with a rate that may change at run time.
