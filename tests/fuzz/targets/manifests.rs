//! Manifests: any text. No text panics, and a manifest that is accepted is the same after every way of writing it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quell_model::{
    digest::{Digest, canonical},
    manifest::{self, File, Parsed},
};

fuzz_target!(|text: &str| {
    // What comes out of a store or over the wire is read by these two.
    let _ = manifest::from_canonical(text);
    let _ = manifest::probe_from_canonical(text);

    let values = manifest::placeholders(text).into_iter().map(|hole| (hole.name, "1: [\"x\", #".to_owned())).collect();
    let Ok(filled) = manifest::fill("fuzz.yaml", text, &values) else { return };
    for manifest in parse(&filled).unwrap_or_default() {
        stays_the_same(&manifest);
    }
});

fn parse(text: &str) -> Result<Vec<Parsed>, Vec<manifest::Error>> {
    manifest::parse(&[File { name: "fuzz.yaml".to_owned(), text: text.to_owned() }])
}

fn stays_the_same(parsed: &Parsed) {
    let text = &parsed.canonical;
    let json: serde_json::Value = serde_json::from_str(text).expect("canonical text is JSON");
    assert_eq!(&canonical(&json), text, "canonical text is not canonical");
    assert_eq!(parsed.manifest.digest(), Digest::of(text.as_bytes()), "the digest is of other bytes: {text}");

    let read = manifest::from_canonical(text).unwrap_or_else(|errors| panic!("not read back: {text}: {errors:?}"));
    assert_eq!(read.digest(), parsed.manifest.digest(), "read back as another: {text}");
    assert_eq!((read.kind(), read.name()), (parsed.manifest.kind(), parsed.manifest.name()));

    let yaml = manifest::to_yaml(text);
    match parse(&yaml).as_deref() {
        Ok([again]) => assert_eq!(&again.canonical, text, "printed as another: {yaml}"),
        other => panic!("printed as what is not one manifest: {yaml}: {other:?}"),
    }
    let looser = manifest::looser(Some(&parsed.manifest), Some(&read));
    assert!(looser.is_empty(), "looser than itself: {text}: {looser:?}");
}
