//! The date-time of RFC 5322 section 3.3, in UTC.

use jiff::Timestamp;

/// `Sun, 22 Nov 2026 16:00:54 +0000`
pub fn rfc5322(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_in_utc_with_two_digits_for_the_day() {
        let at: Timestamp = "2026-11-02T01:02:03.999+02:00".parse().unwrap();
        assert_eq!(rfc5322(at), "Sun, 01 Nov 2026 23:02:03 +0000");
    }
}
