//! Holds the checked-in code to the `.proto` files: regenerates both halves and compares.
//!
//! `QUELL_REGENERATE=1 cargo test -p quell-wire` writes instead.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and reads and writes files")]

use std::path::{Path, PathBuf};

use prost::Message as _;

const PROTOS: [&str; 4] =
    ["quell/v1/agent.proto", "quell/v1/enrol.proto", "quell/v1/operator.proto", "quell/v1/view.proto"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What is generated: the file in the repository, and its content.
fn generate() -> Vec<(PathBuf, Vec<u8>)> {
    let proto = root();
    let descriptors = protox::compile(PROTOS, [&proto]).unwrap();
    let scratch = tempfile::tempdir().unwrap();

    let messages = scratch.path().join("messages");
    std::fs::create_dir(&messages).unwrap();
    tonic_prost_build::configure()
        .out_dir(&messages)
        .build_client(false)
        .build_server(false)
        .btree_map(".")
        .message_attribute(".", "#[derive(serde::Serialize)]")
        .message_attribute(".", "#[serde(rename_all = \"camelCase\")]")
        .enum_attribute("AgentMessage.body", "#[derive(serde::Serialize)]")
        .enum_attribute("ControllerMessage.body", "#[derive(serde::Serialize)]")
        .enum_attribute("Field.value", "#[derive(serde::Serialize)]")
        .compile_fds(descriptors.clone())
        .unwrap();

    let services = scratch.path().join("services");
    std::fs::create_dir(&services).unwrap();
    tonic_prost_build::configure()
        .out_dir(&services)
        .extern_path(".quell.v1", "::quell_wire::v1")
        .compile_fds(descriptors.clone())
        .unwrap();

    vec![
        (proto.join("wire/src/gen/quell.v1.rs"), std::fs::read(messages.join("quell.v1.rs")).unwrap()),
        (proto.join("wire/src/gen/descriptors.bin"), descriptors.encode_to_vec()),
        (proto.join("link/src/gen/quell.v1.rs"), std::fs::read(services.join("quell.v1.rs")).unwrap()),
    ]
}

#[test]
fn checked_in_code_is_what_the_proto_files_generate() {
    let writing = std::env::var_os("QUELL_REGENERATE").is_some();
    for (path, wanted) in generate() {
        if writing {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{} is not what the .proto files generate; run QUELL_REGENERATE=1 cargo test -p quell-wire",
            path.display()
        );
    }
}
