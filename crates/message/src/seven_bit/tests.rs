//! What is converted, what is left alone, and that any pieces lead to the same.

use super::*;
use proptest::prelude::*;

/// In pieces of this size.
fn convert_in(message: &[u8], size: usize) -> Result<Vec<u8>, CannotConvert> {
    let mut scan = Scan::default();
    message.chunks(size).for_each(|piece| scan.feed(piece));
    let mut converter = Converter::new(scan.end()?);
    let mut out = Vec::new();
    for piece in message.chunks(size) {
        out.extend(converter.feed(piece));
    }
    out.extend(converter.end());
    Ok(out)
}

/// The same in any pieces.
fn convert(message: &str) -> Result<String, CannotConvert> {
    let whole = convert_in(message.as_bytes(), usize::MAX);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(whole, convert_in(message.as_bytes(), size), "{size}");
    }
    whole.map(|bytes| String::from_utf8(bytes).unwrap())
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

fn check(before: &str, after: &str) {
    assert_eq!(convert(&crlf(before)), Ok(crlf(after)));
}

#[test]
fn a_text_becomes_quoted_printable_and_its_other_fields_stay() {
    check(
        "Subject: caf\u{e9}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\nX-A:  b \n\nun caf\u{e9} = 1 \n.\n",
        "Subject: caf\u{e9}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nX-A:  b \n\
         Content-Transfer-Encoding: quoted-printable\n\nun caf=C3=A9 =3D 1=20\n.\n",
    );
}

#[test]
fn a_message_without_mime_gets_a_mime_header() {
    check(
        "Subject: x\n\ncaf\u{e9}\n",
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: quoted-printable\n\ncaf=C3=A9\n",
    );
    let latin = convert_in(b"Subject: x\r\n\r\ncaf\xe9\r\n", 5).unwrap();
    let latin = String::from_utf8(latin).unwrap();
    assert!(latin.contains("charset=unknown-8bit\r\n"), "{latin}");
    assert!(latin.ends_with("\r\n\r\ncaf=E9\r\n"), "{latin}");
}

const MIXED: &str = "Content-Type: multipart/mixed;\n boundary=\"a b\"\nContent-Transfer-Encoding: 8bit\n\n\
    preambl\u{e9}\n--a b\nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\n<p>\u{e9}\n\
    --a b\n\nplain\n--a b\nContent-Type: application/x\nContent-Transfer-Encoding: binary\n\n\u{e9}\u{e9}\n--a b--\n\u{e9}pilogue\n";

#[test]
fn every_part_of_a_multipart_is_converted_that_needs_it() {
    check(
        MIXED,
        "Content-Type: multipart/mixed;\n boundary=\"a b\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\n\
         preambl??\n--a b\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<p>=C3=A9\n\
         --a b\n\nplain\n--a b\nContent-Type: application/x\nContent-Transfer-Encoding: base64\n\nw6nDqQ==\n--a b--\n??pilogue\n",
    );
}

#[test]
fn a_message_within_a_message_is_converted_inside() {
    check(
        "Content-Type: multipart/digest; boundary=x\n\n--x\nContent-Type: message/rfc822\n\n\
         Subject: in\nContent-Type: multipart/alternative; boundary=y\n\n--y\n\n\u{e9}\n--x\nContent-Type: text/plain\n\nb\n--x--\n",
        "Content-Type: multipart/digest; boundary=x\n\n--x\nContent-Type: message/rfc822\n\n\
         Subject: in\nContent-Type: multipart/alternative; boundary=y\n\n--y\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9\n\
         --x\nContent-Type: text/plain\n\nb\n--x--\n",
    );
}

#[test]
fn what_is_signed_or_encoded_already_is_left_alone() {
    for (message, why) in [
        (
            "Content-Type: multipart/signed; boundary=x\n\n--x\n\n\u{e9}\n--x--\n",
            CannotConvert::Signed,
        ),
        (
            "Content-Type: multipart/signed; boundary=x\n\n--x\nContent-Type: multipart/mixed; boundary=y\n\n--y\n\n\u{e9}\n--y--\n--x--\n",
            CannotConvert::Signed,
        ),
        (
            "Content-Transfer-Encoding: base64\n\n\u{e9}\n",
            CannotConvert::Opaque,
        ),
        (
            "Content-Type: multipart/mixed\n\n--x\n\n\u{e9}\n",
            CannotConvert::Opaque,
        ),
        (
            "Content-Type: text/plain\nContent-Type: text/html\n\n\u{e9}\n",
            CannotConvert::Opaque,
        ),
        (
            "Content-Type: message/partial; id=1; number=1\n\n\u{e9}\n",
            CannotConvert::Opaque,
        ),
    ] {
        assert_eq!(convert(&crlf(message)), Err(why), "{message}");
    }
}

#[test]
fn a_message_without_8_bit_bytes_in_its_parts_stays_as_it_is() {
    for message in [
        "",
        "\n",
        "no header\n",
        "Subject: \u{e9}\n\nhello\n",
        "Subject: x",
        "Content-Type: multipart/signed; boundary=x\nContent-Transfer-Encoding: 8bit\n\n--x\n\na\n--x--\n",
        "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Transfer-Encoding: base64\n\nYQ==\n--x--\n\n",
        "Content-Type: multipart/mixed; boundary=x\n\n--x--x\n--xx\n--x\n",
    ] {
        check(message, message);
    }
}

#[test]
fn parts_without_end_are_no_endless_work() {
    let nested: String = (0..200)
        .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n"))
        .collect();
    assert_eq!(
        convert_in(crlf(&format!("{nested}\n\u{e9}\n")).as_bytes(), 9999),
        Err(CannotConvert::Opaque)
    );
    check(&nested, &nested);
}

#[test]
fn long_lines_are_cut_softly_and_a_long_binary_line_too() {
    let line = format!("Subject: x\r\n\r\n{}\r\n", "\u{e9}".repeat(50_000));
    let out = convert(&line).unwrap();
    assert!(out.lines().all(|line| line.len() <= 76));
    assert!(out.ends_with("=C3=A9\r\n"));
}

/// What an old reader makes of quoted-printable.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, text.get(at + 1..at + 3)) {
            (b'=', Some(b"\r\n")) => at += 3,
            (b'=', Some(hex)) => {
                let hex = std::str::from_utf8(hex).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn what_comes_out_is_7_bit_and_says_the_same(body in prop::collection::vec(
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'='), Just(b'-'), any::<u8>()], 0..300,
    ), size in 1usize..80) {
        let message = [b"Content-Type: text/plain\r\n\r\n", &body[..], b"\xff\r\n"].concat();
        let out = convert_in(&message, size).unwrap();
        prop_assert!(out.is_ascii());
        let at = memchr::memmem::find(&out, b"\r\n\r\n").unwrap() + 4;
        prop_assert!(out[at..].split(|byte| *byte == b'\n').all(|line| line.len() <= 77));
        prop_assert_eq!(decode(&out[at..]), [&body[..], b"\xff\r\n"].concat());
    }

    #[test]
    fn any_bytes_are_converted_the_same_in_any_pieces(
        message in "(Content-Type: |multipart/mixed; |boundary=x|--x|--|\r\n|\r\n|\n|message/rfc822|\u{e9}|a| |\t|:|\"){0,60}",
        size in 1usize..20,
    ) {
        let whole = convert_in(message.as_bytes(), usize::MAX);
        prop_assert_eq!(&whole, &convert_in(message.as_bytes(), size));
    }
}
