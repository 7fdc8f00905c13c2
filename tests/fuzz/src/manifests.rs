//! YAML and JSON manifests, and the policies that they make.

use std::net::Ipv4Addr;
use weft_core::policy::offline::{Offline, Question};
use weft_manifests::{Manifests, addresses, parse};
use weft_types::LabelFilter;

/// With more objects a cluster is too large to be judged in passing.
const OBJECTS_MAX: usize = 64;
/// Pods that ask each other.
const ASKING: usize = 4;

/// The target.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match parse("fuzz.yaml", &text) {
        Err(errors) => {
            assert!(!errors.is_empty(), "refused, and nobody says why");
            assert!(errors.iter().all(|error| error.to_string().contains("fuzz.yaml")));
        }
        Ok(manifests) if manifests.objects.len() <= OBJECTS_MAX => judged(&manifests),
        Ok(_) => {}
    }
}

fn judged(manifests: &Manifests) {
    let given = addresses(&manifests.objects);
    let cluster = Offline::new(&manifests.objects, &given, &LabelFilter::default());
    let pods = given.values().copied().take(ASKING);
    let all: Vec<Ipv4Addr> = pods.chain([[203, 0, 113, 9].into()]).collect();
    for (from, to) in all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))) {
        for (protocol, port) in [(6, 80), (17, 53), (132, 8080), (1, 8)] {
            let question = Question { from, to, protocol, port };
            let answer = cluster.judge(&question);
            assert_eq!(answer.allowed(), cluster.passes(&question), "{question:?}: {answer:?}");
        }
    }
}
