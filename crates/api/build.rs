//! Compiles every contract under `proto/` without protoc, and gives messages that hold something sensitive a `Debug`
//! that leaves it out.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

#[path = "build/redact.rs"]
mod redact;

#[expect(clippy::disallowed_methods, reason = "cargo says in the environment where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", root.display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");

    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;
    // Encoded by protox: prost-types would drop the method and field options.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let redacted = redact::find(&compiler.descriptor_pool())?;
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(redacted.paths());
    tonic_prost_build::configure()
        .codec_path("crate::codec::Contract")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    for (package, code) in redacted.code() {
        // prost-build names the file like the module: `type` is a keyword.
        let path = out.join(format!("{}.rs", package.replace(".type.", ".r#type.")));
        let generated = fs::read_to_string(&path)?;
        fs::write(&path, generated + &code)?;
    }
    Ok(())
}

/// Finds every `.proto` below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
