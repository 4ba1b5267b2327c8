//! A reader of the code blocks of a Markdown page.

/// A fenced code block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The heading above it.
    pub(super) section: String,
    /// The first word of the info string.
    pub(super) language: String,
    /// The other words of the info string.
    pub(super) marks: Vec<String>,
    pub(super) text: String,
}

/// A step of a terminal session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A command, typed at the prompt of the shell.
    Command(String),
    /// A line, typed into the running program.
    Typed(String),
    /// Ctrl-C.
    Interrupt,
    /// A line of output.
    Shown(String),
}

impl Block {
    pub(super) fn has_mark(&self, mark: &str) -> bool {
        self.marks.iter().any(|own| own == mark)
    }

    /// The file that has this text, by a mark like `file=names.toml`.
    pub(super) fn file(&self) -> Option<&str> {
        self.marks.iter().find_map(|mark| mark.strip_prefix("file="))
    }

    /// Whether it is commands: `console` with their output, or `sh` without.
    pub(super) fn is_commands(&self) -> bool {
        ["console", "sh"].contains(&&*self.language)
    }

    pub(super) fn is_run(&self) -> bool {
        self.is_commands() && !self.has_mark("no-run")
    }

    pub(super) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Its steps. A command continues on the next line after a backslash or inside quotes.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let command = if self.language == "sh" { Some(line) } else { line.strip_prefix("$ ") };
            steps.push(match command {
                Some(command) => {
                    let mut command = command.to_owned();
                    while command.ends_with('\\') || command.matches('\'').count() % 2 == 1 {
                        command = format!("{command}\n{}", lines.next().expect("the command ends"));
                    }
                    Step::Command(command)
                }
                None if line == "^C" => Step::Interrupt,
                None => match line.strip_prefix("> ") {
                    Some(typed) => Step::Typed(typed.to_owned()),
                    None => Step::Shown(line.to_owned()),
                },
            });
        }
        steps
    }
}

/// The code blocks of a page, in order.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut section, mut is_inside) = (String::new(), false);
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(info) if !is_inside => {
                let mut words = info.split_whitespace().map(str::to_owned);
                let (language, section) = (words.next().unwrap_or_default(), section.clone());
                blocks.push(Block { section, language, marks: words.collect(), text: String::new() });
                is_inside = true;
            }
            Some(_) => is_inside = false,
            None if is_inside => {
                let text = &mut blocks.last_mut().unwrap().text;
                *text += line;
                text.push('\n');
            }
            None if line.starts_with('#') => line.trim_matches(['#', ' ']).clone_into(&mut section),
            None => {}
        }
    }
    blocks
}

/// The page with other texts of these blocks.
pub(super) fn with_texts(page: &str, texts: &[(usize, String)]) -> String {
    let (mut written, mut count, mut is_inside) = (String::new(), 0, false);
    for line in page.lines() {
        let is_fence = line.starts_with("```");
        let other = texts.iter().find(|(index, _)| *index + 1 == count && is_inside);
        if is_fence || other.is_none() {
            written += line;
            written.push('\n');
        }
        if is_fence {
            is_inside = !is_inside;
            count += usize::from(is_inside);
            let other = texts.iter().find(|(index, _)| *index + 1 == count && is_inside);
            written += other.map_or("", |(_, text)| text);
        }
    }
    written
}

#[test]
fn blocks_and_their_steps_are_read_and_texts_replaced() {
    let page =
        "# A\n\n```console runs-on\n$ a 'b\nc' \\\nd\nout\n> in\n^C\n```\n\n## B\n\n```toml file=x\n```\n";
    let read = blocks(page);
    let heads: Vec<_> =
        read.iter().map(|block| (&*block.section, &*block.language, block.is_run())).collect();
    assert_eq!(heads, [("A", "console", true), ("B", "toml", false)]);
    assert!(read[0].has_mark("runs-on") && read[1].file() == Some("x"));
    let steps = [
        Step::Command("a 'b\nc' \\\nd".to_owned()),
        Step::Shown("out".to_owned()),
        Step::Typed("in".to_owned()),
        Step::Interrupt,
    ];
    assert_eq!(read[0].steps(), steps);
    assert_eq!(with_texts(page, &[]), page);
    let other = with_texts(page, &[(0, "$ e\n".to_owned())]);
    assert_eq!(blocks(&other)[0].text, "$ e\n");
    assert_eq!(blocks(&other)[1].section, "B");
}
