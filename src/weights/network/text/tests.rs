//! Files of every kind and every defect.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::weights::network::text::error::TextError;
use crate::weights::network::text::{Request, Samples, read};

const REQUEST: Request = Request { samples: None, seq_len: 4, vocabulary: 10 };

/// Words to ids, `<s>` (0) before every text if `prefixed`.
fn tokenizer(prefixed: bool) -> Value {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let begin = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let processor = json!({"type": "TemplateProcessing", "single": [begin, text("A")],
        "pair": [begin, text("A"), text("B")],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}});
    json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<s>"), special(8, "<|im_start|>"), special(9, "<|im_end|>")],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": if prefixed { processor } else { Value::Null }, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "u",
            "vocab": {"<s>": 0, "u": 1, "a": 2, "b": 3, "c": 4, "user": 5, "d": 6, "e": 7,
                "<|im_start|>": 8, "<|im_end|>": 9}}})
}

fn folder(prefixed: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), tokenizer(prefixed).to_string()).unwrap();
    folder
}

fn read_in(folder: &TempDir, name: &str, data: &str, request: Request) -> Result<Samples, TextError> {
    let path = folder.path().join(name);
    fs::write(&path, data).unwrap();
    read(&path, folder.path(), request)
}

#[test]
fn lines_are_samples_cut_at_the_sequence_length() {
    let data = r#"{"text": "a b c a b c"}
{"tokens": [7, 8]}
{"input_ids": [1, 2, 3, 4, 5, 6]}
{"messages": [{"role": "user", "content": "a b"}]}
"#;
    let found = read_in(&folder(true), "x.jsonl", data, REQUEST).unwrap();
    let expected: [&[u32]; 4] = [&[0, 2, 3, 4], &[7, 8], &[1, 2, 3, 4], &[0, 8, 5, 2]];
    assert_eq!(found.sequences, expected);
    assert!(found.tokenizer_hash.is_some());
    let two = read_in(&folder(true), "x.jsonl", data, Request { samples: Some(2), ..REQUEST }).unwrap();
    assert_eq!(two.sequences, expected[..2]);
    assert_eq!(two.data_hash, found.data_hash, "the hash is of the whole file");
}

#[test]
fn text_is_cut_into_consecutive_samples() {
    let words = "a b c d\na b c d\na b\n";
    let plain = read_in(&folder(false), "x.txt", words, REQUEST).unwrap();
    assert_eq!(plain.sequences, [[2, 3, 4, 6], [2, 3, 4, 6]]);
    let prefixed = read_in(&folder(true), "x.txt", words, Request { samples: Some(3), ..REQUEST }).unwrap();
    assert_eq!(prefixed.sequences, [[0, 2, 3, 4], [0, 6, 2, 3], [0, 4, 6, 2]]);
    let short = read_in(&folder(true), "x.txt", "a b", REQUEST).unwrap();
    assert_eq!(short.sequences, [[0, 2, 3]]);
    let long = "a b c d\n".repeat(30_000);
    let many = read_in(&folder(false), "x.txt", &long, Request { samples: Some(20_000), ..REQUEST }).unwrap();
    assert!(many.sequences.iter().all(|s| s == &[2, 3, 4, 6]), "pieces end with lines");
}

#[test]
fn ids_need_no_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let found = read_in(&folder, "x.jsonl", "{\"tokens\": [1, 2]}", REQUEST).unwrap();
    assert_eq!((found.sequences, found.tokenizer_hash), (vec![vec![1, 2]], None));
    let error = read_in(&folder, "x.jsonl", "{\"text\": \"a b\"}", REQUEST).unwrap_err();
    assert!(matches!(error, TextError::NoTokenizer { .. }), "{error}");
}

#[test]
fn defects_are_named_with_their_line() {
    let folder = folder(false);
    let good = "{\"tokens\": [1, 2]}\n";
    for (second, expected) in [
        ("\n", "line 2: empty"),
        ("{\"tokens\": [1,\n", "line 2: not JSON"),
        ("[1, 2]\n", "line 2: a list; expected a JSON object"),
        ("{\"txt\": 1, \"id\": 2}\n", "line 2: keys txt, id; expected a key `text`"),
        ("{}\n", "line 2: an object without keys"),
        ("{\"text\": 1}\n", "line 2: `text` is a number"),
        ("{\"messages\": [{\"role\": \"user\"}]}\n", "line 2: `messages` is not that"),
        ("{\"tokens\": [1, -2]}\n", "line 2: `tokens` is not that"),
        ("{\"tokens\": [1, 10]}\n", "line 2: token 10 is beyond the vocabulary of 10"),
        ("{\"tokens\": [1]}\n", "line 2: 1 token(s)"),
        ("{\"text\": \"\"}\n", "line 2: 0 token(s)"),
    ] {
        let error = read_in(&folder, "x.jsonl", &format!("{good}{second}"), REQUEST).unwrap_err().to_string();
        assert!(error.contains("x.jsonl") && error.contains(expected), "{error}");
    }
    let asked = Request { samples: Some(3), ..REQUEST };
    let error = read_in(&folder, "x.jsonl", good, asked).unwrap_err().to_string();
    assert!(error.contains("3 samples of 4 tokens asked, only 1 there"), "{error}");
    assert!(matches!(read_in(&folder, "x.jsonl", "", REQUEST), Err(TextError::Nothing { .. })));
    assert!(matches!(read_in(&folder, "x.csv", "a", REQUEST), Err(TextError::Kind { .. })));
    let short = Request { seq_len: 1, ..REQUEST };
    assert!(matches!(read_in(&folder, "x.txt", "a", short), Err(TextError::SequenceLength { .. })));
    fs::write(folder.path().join("y.txt"), [b'a', b'\n', 0xff, 0xfe]).unwrap();
    let error = read(&folder.path().join("y.txt"), folder.path(), REQUEST).unwrap_err();
    assert!(matches!(error, TextError::NotText { line: 2, .. }));
    assert!(matches!(
        read(&folder.path().join("none.txt"), folder.path(), REQUEST),
        Err(TextError::Unreadable { .. })
    ));
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let error = read_in(&folder, "x.txt", "a b", REQUEST).unwrap_err();
    assert!(matches!(error, TextError::Tokenizer { .. }), "{error}");
}
