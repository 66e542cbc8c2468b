//! Which texts are addresses, and how they are written back.

use super::*;
use proptest::prelude::*;

#[test]
fn mailboxes_are_read_and_written_back() {
    for (text, local_part, written, wire) in [
        ("a@b", "a", "a@b", "a@b"),
        (
            "A.b+c@EXAMPLE.com",
            "A.b+c",
            "A.b+c@example.com",
            "A.b+c@example.com",
        ),
        (
            r#""a b"@x.test"#,
            "a b",
            r#""a b"@x.test"#,
            r#""a b"@x.test"#,
        ),
        (r#""ab"@x.test"#, "ab", "ab@x.test", "ab@x.test"),
        (
            r#""a\"\\b@>"@x.test"#,
            r#"a"\b@>"#,
            r#""a\"\\b@>"@x.test"#,
            r#""a\"\\b@>"@x.test"#,
        ),
        (r#"""@x.test"#, "", r#"""@x.test"#, r#"""@x.test"#),
        (
            r#""a..b"@x.test"#,
            "a..b",
            r#""a..b"@x.test"#,
            r#""a..b"@x.test"#,
        ),
        ("u@[192.0.2.1]", "u", "u@[192.0.2.1]", "u@[192.0.2.1]"),
        (
            "u@[ipv6:2001:DB8::1]",
            "u",
            "u@[IPv6:2001:db8::1]",
            "u@[IPv6:2001:db8::1]",
        ),
        (
            "j\u{f6}rg@B\u{fc}cher.example",
            "j\u{f6}rg",
            "j\u{f6}rg@b\u{fc}cher.example",
            "j\u{f6}rg@xn--bcher-kva.example",
        ),
        (
            "a@_dmarc-x.foo_bar.example",
            "a",
            "a@_dmarc-x.foo_bar.example",
            "a@_dmarc-x.foo_bar.example",
        ),
    ] {
        let mailbox = Mailbox::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(mailbox.local_part(), local_part);
        assert_eq!(mailbox.to_string(), written);
        assert_eq!(mailbox.to_wire(), wire);
    }
}

#[test]
fn what_is_no_mailbox_is_refused() {
    for text in [
        "",
        "a",
        "@b",
        "a@",
        "a b@c",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a@b..c",
        "a@.b",
        "a@b.",
        "a@-b",
        "a@b-.c",
        "a@b c",
        "a@b>",
        "<a@b>",
        "a@b@c",
        "\"a@b",
        "\"a\"b@c",
        "\"a\\\"@b",
        "a@[192.0.2.256]",
        "a@[192.0.2.1",
        "a@192.0.2.1]",
        "a@192.0.2.1",
        "a@[2001:db8::1]",
        "a@[IPv6:2001:db8::g]",
        "a@[x]",
        "a@[]",
        "a\r\n@b",
        "\"a\nb\"@c",
        "a@b\r\n",
        "a\0@b",
        "a,b@c",
        "a:b@c",
        "(x)a@b",
        "a@b\u{200d}\u{300}",
        "a@\u{fffd}.example",
        "\"a\\\u{e9}\"@b",
    ] {
        assert!(Mailbox::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn lengths_are_those_of_the_standard() {
    let local = |n: usize| format!("{}@x.test", "a".repeat(n));
    assert!(Mailbox::parse(&local(64)).is_ok());
    assert!(Mailbox::parse(&local(65)).is_err());
    let label = "b".repeat(63);
    let long = format!("{label}.{label}.{label}.{}", "c".repeat(61));
    assert_eq!(format!("a@{long}").len(), 255);
    assert!(Mailbox::parse(&format!("a@{long}")).is_err());
    assert!(Mailbox::parse(&format!("a@{}", &long[1..])).is_ok());
    assert!(Domain::parse(&"b".repeat(64)).is_err());
    assert!(Domain::parse(&format!("{long}.dd")).is_err());
    // 63 octets of U-label are more in A-labels.
    assert!(Domain::parse(&"\u{fc}".repeat(60)).is_err());
}

#[test]
fn the_path_ends_at_its_bracket_and_parameters_follow() {
    let mailbox = |text: &str| Path::Mailbox(Mailbox::parse(text).unwrap());
    for (text, path, rest) in [
        ("<>", Path::Null, ""),
        ("<> BODY=7BIT", Path::Null, " BODY=7BIT"),
        ("<Postmaster>", Path::Postmaster, ""),
        ("<postmaster@x.test>", mailbox("postmaster@x.test"), ""),
        ("<a@b> SIZE=1", mailbox("a@b"), " SIZE=1"),
        ("<\"a>b\"@c>x", mailbox("\"a>b\"@c"), "x"),
        ("<@a,@[IPv6:::1],@b.c:d@e>", mailbox("d@e"), ""),
        ("<@a:d@[192.0.2.1]>", mailbox("d@[192.0.2.1]"), ""),
    ] {
        assert_eq!(take_path(text), Ok((path, rest)), "{text}");
    }
    for text in [
        "",
        "a@b",
        "<a@b",
        "<a>",
        "<@a:>",
        "<@a>",
        "<@a,b:c@d>",
        "<@:c@d>",
        "< a@b>",
        "<a@b >",
        "<<a@b>>",
    ] {
        assert!(take_path(text).is_err(), "{text}");
    }
}

#[test]
fn a_reverse_path_is_read_with_and_without_brackets() {
    assert_eq!(ReversePath::parse("<>"), Ok(ReversePath::Null));
    assert_eq!(ReversePath::parse("<a@b>"), ReversePath::parse("a@b"));
    for text in ["", "<postmaster>", "<a@b> ", "postmaster"] {
        assert!(ReversePath::parse(text).is_err(), "{text}");
    }
}

#[test]
fn control_characters_never_get_into_a_mailbox() {
    let host = Host::parse("x.test").unwrap();
    let mailbox = Mailbox::new("a\r\nRCPT TO:<b>\0".into(), host);
    assert_eq!(mailbox.to_string(), "\"aRCPT TO:<b>\"@x.test");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(local_part in "\\PC{0,20}", host in "([a-z0-9]{1,5}\\.){0,2}[a-z]{2,4}|\\[192\\.0\\.2\\.[0-9]\\]|\\[IPv6:2001:db8::[1-9a-f]\\]|b\u{fc}cher\\.example") {
        let mailbox = Mailbox::new(local_part, Host::parse(&host).unwrap());
        prop_assume!(mailbox.local_part().len() <= LOCAL_PART_MAX);
        prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox.clone()));
        let path = format!("<{mailbox}> X");
        prop_assert_eq!(take_path(&path), Ok((Path::Mailbox(mailbox), " X")));
    }

    #[test]
    fn any_text_is_read_without_panic_and_what_is_read_is_stable(text in "\\PC{0,40}|[<>@:,.\\[\\]\"\\\\ a-c\u{fc}]{0,30}") {
        let _ = take_path(&text);
        if let Ok(mailbox) = Mailbox::parse(&text) {
            prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox));
        }
        if let Ok(domain) = Domain::parse(&text) {
            prop_assert_eq!(Domain::parse(domain.as_str()), Ok(domain.clone()));
            let ascii = domain.to_ascii();
            prop_assert!(ascii.is_ascii());
            prop_assert!(Domain::parse(&ascii).is_ok());
        }
    }
}
