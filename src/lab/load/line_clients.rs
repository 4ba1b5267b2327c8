//! The dialogue with a line listener. Clients recognise its questions by the word `name`, as in Trio Chat's clients.

/// Bound on the bytes kept from a server before it has accepted a name.
const MAX_HEARD: usize = 4 << 10;

/// The answers of a server, and the state of the dialogue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    heard: Vec<u8>,
    is_asked: bool,
    is_named: bool,
}

impl Answers {
    /// Handles bytes. Returns whether it is time to send a name.
    pub(crate) fn hears_question(&mut self, bytes: &[u8]) -> bool {
        let room = MAX_HEARD.saturating_sub(self.heard.len());
        self.heard.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if self.is_asked {
            self.is_named |= !bytes.is_empty();
            return false;
        }
        let text = String::from_utf8_lossy(&self.heard).to_lowercase();
        self.is_asked = text.contains("name");
        self.is_asked
    }

    /// Whether the server has answered the name.
    #[must_use]
    pub(crate) fn is_named(&self) -> bool {
        self.is_named
    }

    /// Returns all bytes received.
    #[must_use]
    pub(crate) fn heard(&self) -> &[u8] {
        &self.heard
    }
}

/// Returns a line of exactly `size` bytes, its end included (2 at least), led by its number as far as it fits.
#[must_use]
pub(crate) fn line(number: u64, size: usize) -> Vec<u8> {
    let mut line = Vec::with_capacity(size);
    super::byte_pattern::body(number, size.saturating_sub(1).max(1), &mut line);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_sent_once_when_it_is_asked_for() {
        let mut answers = Answers::default();
        assert!(!answers.hears_question(b"Welcome! Enter your na"));
        assert!(answers.hears_question(b"me: "));
        assert!(!answers.hears_question(b"") && !answers.is_named());
        assert!(!answers.hears_question(b"you are ada, a good name"));
        assert!(answers.is_named());
    }

    #[test]
    fn a_line_has_its_size_and_its_end() {
        assert_eq!(line(7, 8), b"000007a\n");
        assert_eq!(line(7, 0), b"7\n");
        assert_eq!(line(1, 100).len(), 100);
    }
}
