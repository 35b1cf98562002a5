//! No text panics, and values that are filled in change nothing but the scalar that they stand in.

use proptest::prelude::*;

use super::*;

/// Pieces of which confusing documents are made.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "apiVersion: quell/v1\n",
            "kind: Policy\n",
            "metadata: ",
            "{ name: x }\n",
            "spec:\n",
            "  ",
            "- ",
            ": ",
            "? ",
            "! ",
            "&a ",
            "*a ",
            "<<: ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "\"",
            "'",
            "|\n",
            ">\n",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            " #",
            "\t",
            "\n",
            "hosts: all\n",
            "  trigger: { when: ",
            "probes: ",
            "every: 5s\n",
            "${x:-1}",
            "$(y)",
            "\u{feff}",
            "\u{0}",
            "é",
            "ladder:\n",
            "  - name: ",
            "1e999",
            "-0.0",
            "0x1F",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(pieces in prop::collection::vec(piece(), 0..40), value in ".{0,20}") {
        let text = pieces.concat();
        let _ = parse_one(&text);
        let _ = from_canonical(&text);
        let _ = fill("a.yaml", &text, &BTreeMap::from([("x".to_owned(), value)])).map(|text| parse_one(&text));
    }

    #[test]
    fn no_damage_to_a_good_manifest_panics(at in 0..FAILOVER.len(), length in 0_usize..60, piece in piece()) {
        let mut text = FAILOVER.to_owned();
        text.replace_range(at..(at + length).min(FAILOVER.len()), &piece);
        let _ = parse_one(&text);
    }

    #[test]
    fn a_value_is_a_scalar_whatever_it_holds(value in any::<String>(), style in 0_usize..4) {
        let text = ["a: x${v:-1}\nb: 2\n", "a: \"x${v:-1}\"\nb: 2\n", "a: 'x${v:-1}'\nb: 2\n", "{ a: x${v:-1}, b: 2 }\n"][style];
        let filled = fill("a.yaml", text, &BTreeMap::from([("v".to_owned(), value.clone())])).unwrap();
        let (documents, faults) = yaml::read(&filled);
        prop_assert!(faults.is_empty(), "{filled:?}: {faults:?}");
        prop_assert_eq!(documents.len(), 1);
        prop_assert_eq!(documents[0].to_json(), serde_json::json!({"a": format!("x{value}"), "b": 2.0}));
    }
}
