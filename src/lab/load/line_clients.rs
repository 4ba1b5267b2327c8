//! What people say at a line door, and how their questions are known, as Trio Chat's clients know them: by the word `name`.

/// The most that is kept of what a door says before it has taken a name, in bytes.
const MAX_HEARD: usize = 4 << 10;

/// What a door has said so far, and how far the talk has come.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    heard: Vec<u8>,
    is_asked: bool,
    is_named: bool,
}

impl Answers {
    /// Hears more; whether it is time to say a name.
    pub fn hears_question(&mut self, bytes: &[u8]) -> bool {
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

    /// Whether something was said after the name.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// All that was said.
    #[must_use]
    pub fn heard(&self) -> &[u8] {
        &self.heard
    }
}

/// A line of exactly `size` bytes, its end included (2 at least), with its number in front as far as it fits.
#[must_use]
pub fn line(number: u64, size: usize) -> Vec<u8> {
    let mut line = Vec::with_capacity(size);
    super::byte_pattern::body(number, size.saturating_sub(1).max(1), &mut line);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_said_once_when_it_is_asked_for() {
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
