//! The main path, whole: YAML → operator → push → actors → maps → packets, with real pods and connections.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Output},
};

/// A lab of this test's own; it goes when the test ends, however it ends.
struct Lab(String);

impl Lab {
    fn weft(arguments: &[&str]) -> Output {
        // This test is target/debug/deps/lab_shop-…; the programs lie one folder up.
        let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("weft");
        Command::new(program)
            .args(arguments)
            .output()
            .expect("run weft: `cargo build --workspace` first")
    }

    fn up(file: &str) -> Self {
        let lab = Self(format!("t{}", std::process::id()));
        let output = Self::weft(&["lab", "up", "--name", &lab.0, "-f", file]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lab
    }

    fn probe(&self) -> BTreeMap<(String, String, u64), String> {
        let output = Self::weft(&["lab", "probe", "--name", &self.0, "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        let row = |row: &Value| {
            let key = (text(row, "from"), text(row, "to"), row["port"].as_u64().unwrap());
            (key, text(row, "verdict"))
        };
        answer["rows"].as_array().unwrap().iter().map(row).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        Self::weft(&["lab", "down", "--name", &self.0]);
    }
}

fn example(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../docs/examples").join(name).display().to_string()
}

#[test]
fn root_the_shop_talks_as_its_policies_say() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a lab needs root");
        return;
    }
    let lab = Lab::up(&example("shop.yaml"));
    let rows = lab.probe();
    let verdict = |from: &str, to: &str, port: u64| {
        rows.get(&(from.to_owned(), to.to_owned(), port)).map(String::as_str)
    };
    for from in ["shop/frontend-0", "shop/frontend-1"] {
        assert_eq!(verdict(from, "shop/cart-0", 8080), Some("allowed"), "{from}");
        assert_eq!(verdict(from, "shop/cart-1", 8080), Some("allowed"), "{from}");
        assert_eq!(verdict(from, "shop/cart-0", 9100), Some("denied"), "{from}");
        assert_eq!(verdict(from, "shop/db-0", 5432), Some("denied"), "{from}");
        assert_eq!(verdict(from, "monitoring/scraper", 9090), Some("allowed"), "{from}");
    }
    assert_eq!(verdict("shop/cart-1", "shop/db-0", 5432), Some("allowed"));
    assert_eq!(verdict("shop/cart-0", "shop/frontend-0", 8080), Some("denied"));
    assert_eq!(verdict("monitoring/scraper", "shop/cart-1", 9100), Some("allowed"));
    assert_eq!(verdict("monitoring/scraper", "shop/cart-1", 8080), Some("denied"));

    // A policy that denies is in the kernels before apply returns.
    let policy = std::env::temp_dir().join(format!("weft-{}.yaml", lab.0));
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                metadata: {name: closed, namespace: monitoring}\nspec: {podSelector: {}}\n";
    std::fs::write(&policy, text).unwrap();
    let file = policy.to_str().unwrap();
    let output = Lab::weft(&["lab", "apply", "--name", &lab.0, "-f", file]);
    std::fs::remove_file(&policy).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = lab.probe();
    let key = ("shop/frontend-0".to_owned(), "monitoring/scraper".to_owned(), 9090);
    assert_eq!(rows.get(&key).map(String::as_str), Some("denied"));

    let name = lab.0.clone();
    drop(lab);
    let prefix = format!("weft-{name}-");
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|entry| entry.starts_with(&prefix))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(!PathBuf::from("/run/weft/labs").join(&name).exists());
}
