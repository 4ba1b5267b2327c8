//! The built-in font, so that plots need no installed one: text widths, line breaks, glyph outlines.
//!
//! SVG text names a generic family, which the viewer chooses. The built-in font is a wide one, so text that fits here
//! fits there.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, GlyphId, InvalidFont, Outline};

static FONT: LazyLock<Result<FontRef<'static>, InvalidFont>> =
    LazyLock::new(|| FontRef::try_from_slice(include_bytes!("DejaVuSans-subset.ttf")));

fn font() -> Option<&'static FontRef<'static>> {
    FONT.as_ref().ok()
}

/// Returns the width of a text at size `em`, in the unit of `em`.
pub(super) fn width(text: &str, em: f32) -> f32 {
    let Some(font) = font() else { return 0.0 };
    let per_unit = em / font.units_per_em().unwrap_or(1_000.0);
    text.chars().map(|c| font.h_advance_unscaled(font.glyph_id(c)) * per_unit).sum()
}

/// Returns the outlines of a text whose first glyph begins at 0 on the base line. Each comes with its start and the
/// pixels per font unit.
pub(super) fn outlines(text: &str, em: f32) -> Vec<(f32, f32, Outline)> {
    let Some(font) = font() else { return Vec::new() };
    let per_unit = em / font.units_per_em().unwrap_or(1_000.0);
    let mut at = 0.0;
    let place = |c: char| {
        let (glyph, begin): (GlyphId, f32) = (font.glyph_id(c), at);
        at += font.h_advance_unscaled(glyph) * per_unit;
        font.outline(glyph).map(|outline| (begin, per_unit, outline))
    };
    text.chars().filter_map(place).collect()
}

/// Breaks a text at spaces into lines of at most `limit`; a wider word is cut.
pub(super) fn wrap(text: &str, em: f32, limit: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match (longer.filter(|longer| width(longer, em) <= limit), lines.last_mut()) {
            (Some(longer), Some(line)) => *line = longer,
            _ => lines.push(fit(word, em, limit)),
        }
    }
    lines
}

/// Replaces the middle of a text by `..` if it is wider than `limit`.
pub(super) fn fit(text: &str, em: f32, limit: f32) -> String {
    if width(text, em) <= limit {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let cut = |kept: usize| {
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        let start = chars.iter().take(head);
        start.chain(&['.', '.']).chain(chars.iter().skip(chars.len() - tail)).collect::<String>()
    };
    let fitting = (0..chars.len()).rev().map(cut).find(|short| width(short, em) <= limit);
    fitting.unwrap_or_else(|| "..".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_font_has_the_characters_of_the_plots() {
        let font = font().unwrap();
        for c in "Success, % 0.123456789 loss each way · éñß λ ж →".chars() {
            assert_ne!(font.glyph_id(c).0, 0, "{c}");
        }
    }

    #[test]
    fn text_wraps_at_spaces_and_every_line_fits() {
        let text = "points: measured, with 95 % intervals; lines: theory";
        let lines = wrap(text, 10.0, 120.0);
        assert!(lines.len() > 1 && lines.iter().all(|line| width(line, 10.0) <= 120.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrap(text, 10.0, 1e6), [text]);
    }

    #[test]
    fn a_text_that_does_not_fit_keeps_its_beginning_and_end() {
        let short = fit("a-policy-with-a-long-name-7", 10.0, 80.0);
        assert!(width(&short, 10.0) <= 80.0 && short.starts_with("a-p") && short.ends_with("e-7"), "{short}");
        assert!(short.contains(".."));
        assert_eq!(fit("expb", 10.0, 80.0), "expb");
        assert_eq!(fit("expb", 10.0, 0.0), "..");
    }
}
