//! Numbers as text for readers, where several commands show them alike.

/// Inserts commas between thousands.
pub(crate) fn grouped(digits: &str) -> String {
    let places = (0..digits.len()).rev();
    let with = digits.chars().zip(places).map(|(digit, place)| match place {
        place if place > 0 && place % 3 == 0 && digit != '-' => format!("{digit},"),
        _ => digit.to_string(),
    });
    with.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated_and_a_sign_is_no_digit() {
        let shown = ["0", "999", "1000", "-999", "-1000", "1234567"].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "-999", "-1,000", "1,234,567"]);
    }
}
