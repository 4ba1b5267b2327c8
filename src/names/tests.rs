//! Tests of the names: rules, spellings, folds and look-alikes.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use unicode_normalization::char::is_combining_mark;

use super::room::split_room;
use super::spelling::{check_shape, composed, enforced, folded, may_hold, with_widths_mapped};
use super::*;

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn refusal(text: &str) -> NameError {
    Name::parse(text.as_bytes()).expect_err(text)
}

fn clash_of(text: &str) -> ClashKeys {
    name(text).clash_keys()
}

fn is_alike(one: &str, other: &str) -> bool {
    let (one, other) = (clash_of(one), clash_of(other));
    assert_eq!(one.clash(&other), other.clash(&one));
    one.clash(&other)
}

/// Every single character that is a valid name.
fn one_character_names() -> impl Iterator<Item = Name> {
    (char::MIN..=char::MAX).filter_map(|c| Name::parse(c.to_string().as_bytes()).ok())
}

/// All rules for all input, without the fast path for ASCII.
fn parse_by_the_tables(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_NAME_INPUT)?;
    let name = enforced(text).ok()?;
    check_shape(&name).ok()?;
    Some(name.into_owned())
}

fn fold_by_the_tables(text: &str) -> String {
    let lower = text.chars().flat_map(char::to_lowercase);
    composed(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect())
}

#[test]
fn ordinary_names_of_many_scripts_are_kept_as_they_are() {
    for text in [
        "TEST01",
        "a",
        "O'Neil",
        "x{y}|\\",
        "Zoë",
        "Дмитрий",
        "ελένη",
        "山田たろう",
        "김철수",
        "עברית",
        "42",
        "नमस्ते",
    ] {
        assert_eq!(name(text).as_str(), text);
    }
}

#[test]
fn a_name_is_composed_and_its_width_is_mapped() {
    assert_eq!(name("Zoe\u{308}").as_str(), "Zoë");
    assert_eq!(name("ｶﾞ").as_str(), "ガ");
    assert_eq!(name("Ｔｅｓｔ").as_str(), "Test");
}

#[test]
fn the_length_counts_characters_after_enforcement() {
    assert_eq!(refusal(""), NameError::Empty);
    for whole in ["x", "ё", "山", "\u{1f82}", "𠀀"] {
        assert_eq!(name(&whole.repeat(32)).as_str(), whole.repeat(32));
        assert_eq!(refusal(&whole.repeat(33)), NameError::TooLong);
    }
    for (decomposed, whole) in [("α\u{313}\u{300}\u{345}", "\u{1f82}"), ("\u{cc6}\u{cc2}\u{cd5}", "\u{ccb}")]
    {
        assert_eq!(name(&decomposed.repeat(32)).as_str(), whole.repeat(32));
        assert_eq!(refusal(&decomposed.repeat(33)), NameError::TooLong);
    }
}

#[test]
fn megabytes_are_refused_by_their_length_alone() {
    assert_eq!(Name::parse(&vec![0xff; 1 << 24]), Err(NameError::TooLong));
    assert_eq!(FoldKey::of(&vec![b'a'; 1 << 24]), None);
}

#[test]
fn white_space_and_control_characters_are_refused() {
    for blank in ['\0', '\t', '\n', '\r', ' ', '\x1b', '\x7f', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}'] {
        assert_eq!(refusal(&format!("a{blank}b")), NameError::Blank);
    }
}

#[test]
fn invisible_and_bidi_characters_symbols_and_emoji_are_refused() {
    for odd in
        ['\u{202e}', '\u{2066}', '\u{200b}', '\u{200d}', '\u{feff}', '\u{ad}', '€', '😀', '\u{e000}', 'ǅ']
    {
        assert_eq!(refusal(&format!("a{odd}b")), NameError::NotAllowed);
    }
}

#[test]
fn every_character_that_cannot_be_in_a_name_becomes_a_dash_in_the_nearest() {
    let nearest = |text: &str| Name::nearest(text.as_bytes()).map(|name| name.to_string());
    for (text, name) in [
        ("Rick", "Rick"),
        (" Guard #2 \r", "Guard--2"),
        ("/nick", "-nick"),
        ("#1", "-1"),
        ("a>b＞c", "a-b-c"),
        ("\u{301}\u{327}Zoe\u{308}", "--Zoë"),
        ("*\u{301}a", "-\u{301}a"),
        ("＠wide　name＃", "-wide-name-"),
        ("a\u{202e}b\u{9b}c\u{2028}d\u{a0}e", "a-b-c-d-e"),
        ("<\u{338}1", "-1"),
        ("\u{3000}Дмитрий\u{85}", "Дмитрий"),
    ] {
        assert_eq!(nearest(text).as_deref(), Ok(name), "{text:?}");
    }
    assert_eq!(Name::nearest(b"a\xff\xe2\x80b").map(|name| name.to_string()).as_deref(), Ok("a--b"));
    assert_eq!(nearest("\u{3000}"), Err(NameError::Empty));
    for nothing in ["-", "*", ">>", "##", "\u{1f680} \u{2764}\u{fe0f}", "\u{301}", "\u{903}"] {
        assert_eq!(nearest(nothing), Err(NameError::OnlyDashes), "{nothing:?}");
    }
    assert_eq!(nearest("аdmin"), Err(NameError::MixedScript));
    assert_eq!(nearest(&"x".repeat(33)), Err(NameError::TooLong));
    assert_eq!(Name::nearest(&[b'x'; 1 << 20]), Err(NameError::TooLong));
}

#[test]
fn forbidden_characters_never_prevent_a_nearest_name() {
    for c in char::MIN..=char::MAX {
        let stands_for = composed(with_widths_mapped(&c.to_string()));
        let kept = c.is_whitespace() || stands_for.chars().all(may_hold);
        let text = format!("l{c}l");
        match Name::nearest(text.as_bytes()) {
            Ok(name) => assert!(kept || name.as_str().contains('-'), "{text:?}: {name}"),
            Err(NameError::MixedScript | NameError::NotAllowed) => assert!(kept, "{text:?}"),
            Err(error) => panic!("{text:?}: {error}"),
        }
    }
}

#[test]
fn reserved_beginnings_are_refused_in_any_width() {
    for first in RESERVED_FIRST {
        assert_eq!(refusal(&format!("{first}x")), NameError::ReservedFirst);
        let wide = char::from_u32(u32::from(first) + 0xfee0).unwrap();
        assert_eq!(refusal(&format!("{wide}x")), NameError::ReservedFirst);
    }
    assert_eq!(name("a@~*/+?").as_str(), "a@~*/+?");
    for angle in ["Rick>", "Rick＞", ">", "a>b"] {
        assert_eq!(refusal(angle), NameError::HoldsAngle);
    }
    assert_eq!(refusal("a#b"), NameError::HoldsHash);
    assert_eq!(refusal("a＃b"), NameError::HoldsHash);
}

#[test]
fn mixed_scripts_are_refused() {
    assert_eq!(refusal("аdmin"), NameError::MixedScript);
    assert_eq!(refusal("adminα"), NameError::MixedScript);
    assert_eq!(name("東京タワーへ行く").as_str(), "東京タワーへ行く");
    assert_eq!(name("Дмитрий_42").as_str(), "Дмитрий_42");
}

#[test]
fn invalid_utf8_is_refused() {
    for bytes in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"] {
        assert_eq!(Name::parse(bytes), Err(NameError::NotUtf8));
        assert_eq!(FoldKey::of(bytes), None);
    }
}

#[test]
fn text_that_composes_into_a_forbidden_character_is_refused() {
    assert_eq!(refusal("<\u{338}"), NameError::NotAllowed);
}

#[test]
fn a_refusal_quotes_nothing_of_the_input() {
    for text in ["\u{1b}[2J", "a\u{202e}b", "@", "аb"] {
        assert!(refusal(text).to_string().bytes().all(|b| matches!(b, b' '..=b'~')));
    }
}

#[test]
fn no_character_panics_in_any_position_and_every_name_is_a_fixed_point() {
    for c in char::MIN..=char::MAX {
        for text in [c.to_string(), format!("{c}a"), format!("l{c}"), format!("ب{c}ب")] {
            if let Ok(name) = Name::parse(text.as_bytes()) {
                assert_eq!(Name::parse(name.as_str().as_bytes()).as_ref(), Ok(&name));
            }
        }
    }
}

#[test]
fn no_random_bytes_and_no_random_characters_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..100_000 {
        let mut bytes = vec![0; rng.random_range(0..300)];
        rng.fill_bytes(&mut bytes);
        let mut text: String = (0..rng.random_range(0..9)).map(|_| rng.random::<char>()).collect();
        text.extend((0..rng.random_range(0..9)).map(|_| rng.random_range('\0'..'\u{3400}')));
        for bytes in [&bytes, text.as_bytes()] {
            assert_eq!(
                Name::parse(bytes).ok().map(|name| name.fold()),
                FoldKey::of(bytes).filter(|_| bytes[0] != b'#')
            );
        }
    }
}

#[test]
fn every_ascii_byte_pair_is_judged_as_the_tables_judge_it() {
    for (a, b) in (0..=127).flat_map(|a| (0..=127).map(move |b| (a, b))) {
        let parsed = Name::parse(&[a, b]).ok().map(|name| name.to_string());
        assert_eq!(parsed, parse_by_the_tables(&[a, b]));
    }
}

#[test]
fn the_fold_of_every_one_character_name_is_blind_to_case_and_folds_to_itself() {
    for name in one_character_names() {
        let (text, fold) = (name.as_str(), name.fold());
        assert_eq!(fold.as_str(), folded(fold.as_str()), "{text}");
        assert_eq!(fold.as_str(), folded(&text.to_uppercase()), "{text}");
        assert_eq!(fold.as_str(), folded(&text.to_lowercase()), "{text}");
    }
}

#[test]
fn a_name_is_found_whatever_its_case() {
    for (one, other) in [
        ("admin", "ADMIN"),
        ("Οδος", "ΟΔΟΣ"),
        ("οδοσ", "οδος"),
        ("Straße", "STRASSE"),
        ("STRAẞE", "strasse"),
        ("ДМИТРИЙ", "дмитрий"),
        ("J\u{30c}", "ǰ"),
    ] {
        assert_eq!(name(one).fold(), name(other).fold());
        assert!(is_alike(one, other), "{one} {other}");
    }
    assert_ne!(name("zoe").fold(), name("zoë").fold());
}

#[test]
fn look_alikes_clash_but_have_different_folds() {
    for (one, other) in [
        ("scope", "ѕсоре"),
        ("SCOPE", "ѕсоре"),
        ("user1", "userl"),
        ("modern", "rnodern"),
        ("MODERN", "rnodern"),
        ("Bill", "BiII"),
        ("BILL", "bill"),
        ("Ian", "lan"),
        ("lAN", "Ian"),
        ("aI", "al"),
    ] {
        assert!(is_alike(one, other), "{one} {other}");
        assert_eq!(name(one).fold() == name(other).fold(), one.eq_ignore_ascii_case(other));
    }
    for (one, other) in [("scope", "scoop"), ("Bill", "Bibl"), ("iii", "lll"), ("Morty", "Marty")] {
        assert!(!is_alike(one, other), "{one} {other}");
    }
}

#[test]
fn the_fast_path_for_ascii_equals_the_unicode_tables() {
    let all: String = (' '..='~').collect();
    for text in all.chars().map(String::from).chain([all.clone(), all.replace('%', "")]) {
        let slow = folded(&unicode_security::skeleton(&text).collect::<String>());
        assert_eq!(spelling::ascii_skeleton(&text).unwrap_or_else(|| slow.clone()), slow);
        assert_eq!(spelling::ascii_skeleton(&text).is_none(), text.contains('%'));
    }
}

#[test]
fn numbered_names_do_not_clash_with_each_other() {
    let keys = |i| clash_of(&format!("TEST{i:02}")).iter().cloned().collect::<Vec<_>>();
    let all: BTreeSet<ClashKey> = (0..40_000).flat_map(keys).collect();
    assert_eq!(all.len(), (0..40_000).map(|i| keys(i).len()).sum::<usize>());
}

#[test]
fn a_room_is_a_hash_and_a_name() {
    let room = RoomName::parse("#Zoe\u{308}".as_bytes()).unwrap();
    assert_eq!(room.to_string(), "#Zoë");
    assert_eq!(room.fold().as_str(), "#zoë");
    for (bytes, error) in [
        ("Lobby", NameError::NotRoom),
        ("", NameError::NotRoom),
        ("＃Lobby", NameError::NotRoom),
        ("#", NameError::Empty),
        ("##x", NameError::ReservedFirst),
        ("#a#b", NameError::HoldsHash),
    ] {
        assert_eq!(RoomName::parse(bytes.as_bytes()), Err(error));
    }
    let longest = format!("#{}", "X".repeat(MAX_NAME_CHARS));
    assert_eq!(RoomName::parse(longest.as_bytes()).unwrap().as_str(), longest);
    assert_eq!(FoldKey::of(longest.as_bytes()).unwrap().as_str(), longest.to_lowercase());
}

#[test]
fn a_room_and_a_client_of_one_name_have_different_keys() {
    let room = RoomName::parse(b"#lobby").unwrap();
    assert_ne!(room.fold(), name("lobby").fold());
    assert!(!room.clash_keys().clash(&name("lobby").clash_keys()));
    for alike in ["#LOBBY", "#l0bby", "#Iobby"] {
        assert!(room.clash_keys().clash(&RoomName::parse(alike.as_bytes()).unwrap().clash_keys()));
    }
}

#[test]
fn a_map_of_keys_can_be_queried_with_raw_bytes() {
    let map: HashMap<FoldKey, u8> = [("Zoë", 1), ("TEST01", 2)].map(|(n, i)| (name(n).fold(), i)).into();
    let find = |target: &str| FoldKey::with(target.as_bytes(), |key| map.get(key).copied());
    assert_eq!(find("ZOË"), Some(Some(1)));
    assert_eq!(find("test01"), Some(Some(2)));
    assert_eq!(find("nobody"), Some(None));
    assert_eq!(find("*"), None);
}

/// Text that exercises the rules: several scripts, marks, reserved and wide characters, sometimes any character.
fn awkward() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-zA-Z0-9_.#@*~ -]{1,6}",
        3 => "[α-ωΑ-Ωа-яА-Яäßẞıſσςǰ]{1,6}",
        2 => "[\u{300}-\u{345}]{1,3}",
        2 => "[ｱ-ﾟ！-～ぁ-ん山川]{1,4}",
        1 => "[א-תء-ي٠-٩۰-۹]{1,4}",
        1 => "\\PC{1,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_key_from_raw_bytes_is_the_fold_of_the_parsed_name(text in awkward()) {
        let slow = parse_by_the_tables(text.as_bytes()).map(|name| fold_by_the_tables(&name));
        let key = (!text.starts_with('#')).then(|| FoldKey::of(text.as_bytes())).flatten();
        prop_assert_eq!(key.as_ref().map(FoldKey::as_str), slow.as_deref());
        prop_assert_eq!(key, Name::parse(text.as_bytes()).ok().map(|name| name.fold()));

        let room = format!("#{text}");
        let parsed = RoomName::parse(room.as_bytes()).ok().map(|room| room.fold());
        prop_assert_eq!(FoldKey::of(room.as_bytes()), parsed.clone());
        prop_assert_eq!(parsed.map(|key| key.as_str().to_owned()), slow.map(|key| format!("#{key}")));
    }

    #[test]
    fn a_name_is_its_own_nearest(text in awkward()) {
        let is_plain = |name: &Name| {
            let text = name.as_str();
            !text.starts_with(is_combining_mark) && text.contains(|c| c != '-')
        };
        if let Some(name) = Name::parse(text.as_bytes()).ok().filter(is_plain) {
            prop_assert_eq!(Name::nearest(text.as_bytes()), Ok(name));
        }
    }

    #[test]
    fn a_name_is_a_fixed_point_within_its_bounds(text in awkward()) {
        if let Ok(name) = Name::parse(text.as_bytes()) {
            let again = Name::parse(name.as_str().as_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&name));
            prop_assert!((1..=MAX_NAME_CHARS).contains(&name.as_str().chars().count()));
            prop_assert!(!name.as_str().chars().any(|c| c.is_whitespace() || c.is_control() || c == '#'));
        }
    }

    #[test]
    fn a_name_in_any_case_has_one_fold_and_a_clash_key_in_common(text in awkward()) {
        if let Ok(name) = Name::parse(text.as_bytes()) {
            let (upper, lower) = (name.as_str().to_uppercase(), name.as_str().to_lowercase());
            for other in [upper, lower, name.fold().as_str().to_owned()] {
                if let Ok(other) = Name::parse(other.as_bytes()) {
                    prop_assert_eq!(other.fold(), name.fold());
                    let (ours, others) = (name.clash_keys(), other.clash_keys());
                    prop_assert_eq!(ours.folded(), others.folded());
                }
            }
        }
    }

    #[test]
    fn any_bytes_make_a_key_only_if_they_make_a_name(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (is_room, rest) = split_room(&bytes);
        prop_assert_eq!(FoldKey::of(&bytes).is_some(), Name::parse(rest).is_ok());
        prop_assert_eq!(RoomName::parse(&bytes).is_ok(), is_room && Name::parse(rest).is_ok());
    }
}
