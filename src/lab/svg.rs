//! SVG as text: elements, their attributes, numbers and escaping. The drawings are in `plot::svg` and `ladder::svg`.

use std::fmt::{self, Display, Write as _};

use crate::escape::escape_xml;

/// An element that is written to a document, one line each. Attributes keep the order in which they are added.
#[derive(Debug)]
#[must_use = "the element is not closed"]
pub(super) struct Element<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl<'a> Element<'a> {
    /// Begins an element.
    pub(super) fn new(out: &'a mut String, name: &'static str) -> Self {
        out.push('<');
        out.push_str(name);
        Self { out, name }
    }

    /// Begins the root of a document, or of a drawing inside a page.
    pub(super) fn root(out: &'a mut String) -> Self {
        Self::new(out, "svg").with("xmlns", "http://www.w3.org/2000/svg")
    }

    /// Adds an attribute.
    pub(super) fn with(self, name: &str, value: impl Display) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.out, " {name}=\"{}\"", escape_xml(&value.to_string()));
        self
    }

    /// Ends the element without content.
    pub(super) fn empty(self) {
        self.out.push_str("/>\n");
    }

    /// Ends the element with a text.
    pub(super) fn text(self, text: &str) {
        self.raw(&escape_xml(text));
    }

    /// Ends the element with content that is not escaped.
    pub(super) fn raw(self, content: &str) {
        let _ = writeln!(self.out, ">{content}</{}>", self.name);
    }

    /// Ends the start tag. The elements that follow are its children, up to the end tag from [`end`].
    pub(super) fn open(self) {
        self.out.push_str(">\n");
    }
}

/// Writes an end tag.
pub(super) fn end(out: &mut String, name: &str) {
    let _ = writeln!(out, "</{name}>");
}

/// A number with one decimal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenths(pub(super) f64);

impl Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_has_its_attributes_in_order_and_its_texts_escaped() {
        let mut out = String::new();
        Element::new(&mut out, "g").with("id", "a").with("class", "\"b\"").open();
        Element::new(&mut out, "line").with("x1", Tenths(-0.25)).with("y1", 1.5).empty();
        Element::new(&mut out, "text").text("<a & \"b\">\u{1b}\u{ffff}\u{7f}\u{e9}");
        Element::new(&mut out, "style").raw("a>b{}");
        end(&mut out, "g");
        let expected = "<g id=\"a\" class=\"&quot;b&quot;\">\n<line x1=\"-0.2\" y1=\"1.5\"/>\n\
            <text>&lt;a &amp; &quot;b&quot;&gt;\u{fffd}\u{fffd}\u{fffd}\u{e9}</text>\n\
            <style>a>b{}</style>\n</g>\n";
        assert_eq!(out, expected);
    }
}
