//! Says which commit is built, where there is a git to ask; a release without one says so itself by `WEFT_COMMIT`.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=WEFT_COMMIT");
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(file) =
            git(&["rev-parse", "--git-path", name]).filter(|f| Path::new(f).exists())
        {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let commit = env::var("WEFT_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=WEFT_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
