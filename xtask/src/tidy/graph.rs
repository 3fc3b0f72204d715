//! Rules about which crate knows which (invariants 1 and 2).

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::workspace::Package;

const FACADE: &str = "ramp-llm";
/// What may use the facade.
const USERS: &[&str] = &["ramp-examples", "ramp-tests"];
/// Crates that do not know what a language model is.
const MODEL_FREE: &[&str] = &["ramp-gguf", "ramp-sac"];
const MODEL: &str = "ramp-model";
const AGENT: &str = "ramp-sac";
/// The crate that brings agent and model together.
const SEARCH: &str = "ramp-search";

/// Package -> the packages that its manifest names.
type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

pub(crate) fn check(packages: &[Package]) -> Vec<Violation> {
    let graph: Graph<'_> = packages
        .iter()
        .map(|package| {
            (package.name.as_str(), package.dependencies.iter().map(|dep| dep.name.as_str()).collect())
        })
        .collect();
    let mut violations = model_free(&graph);
    violations.extend(one_meeting_point(&graph));
    violations.extend(facade_is_on_top(&graph));
    violations
}

fn model_free(graph: &Graph<'_>) -> Vec<Violation> {
    let knows = MODEL_FREE.iter().filter(|name| reachable(graph, name).contains(MODEL));
    knows.map(|name| Violation::new(*name, format!("must not depend on {MODEL}"))).collect()
}

fn one_meeting_point(graph: &Graph<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, dependencies) in graph {
        let exempt = *name == SEARCH || *name == FACADE || USERS.contains(name);
        if !exempt && dependencies.contains(AGENT) && dependencies.contains(MODEL) {
            let message = format!("only {SEARCH} may depend on both {AGENT} and {MODEL}");
            violations.push(Violation::new(*name, message));
        }
    }
    violations
}

fn facade_is_on_top(graph: &Graph<'_>) -> Vec<Violation> {
    let users = graph.iter().filter(|(name, deps)| deps.contains(FACADE) && !USERS.contains(name));
    users.map(|(name, _)| Violation::new(*name, format!("must not depend on {FACADE}"))).collect()
}

/// Every package of the workspace that `name` depends on, directly or not.
fn reachable<'a>(graph: &Graph<'a>, name: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = graph.get(name).into_iter().flatten().copied().collect();
    while let Some(next) = open.pop() {
        if let Some((known, dependencies)) = graph.get_key_value(next)
            && seen.insert(*known)
        {
            open.extend(dependencies.iter().copied());
        }
    }
    seen
}

/// The container format needs no tensor library; `tree` is the output of `cargo tree --prefix none`.
pub(crate) fn container_without_burn(tree: &str) -> Vec<Violation> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let burn = names.into_iter().filter(|name| name.starts_with("burn") || name.starts_with("cubecl"));
    burn.map(|name| Violation::new("ramp-gguf", format!("must not depend on Burn, found {name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    /// `a: b c` is a package and its dependencies.
    fn violations(lines: &str) -> Vec<String> {
        let package = |line: &str| {
            let (name, dependencies) = line.trim().split_once(':').unwrap();
            let dependencies = dependencies.split_whitespace();
            let dependencies = dependencies.map(|name| Dependency { name: name.into() }).collect();
            Package { name: name.into(), dependencies }
        };
        let packages: Vec<Package> = lines.lines().map(package).collect();
        check(&packages).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_planned_graph_passes() {
        let planned = "ramp-gguf: half
            ramp-model: ramp-gguf burn
            ramp-sac: burn
            ramp-search: ramp-sac ramp-model
            ramp-llm: ramp-search ramp-sac ramp-model
            ramp-examples: ramp-llm ramp-sac
            ramp-tests: ramp-llm ramp-model";
        assert_eq!(violations(planned), Vec::<String>::new());
    }

    #[test]
    fn an_agent_that_knows_models_by_a_detour_is_found() {
        let found =
            violations("ramp-sac: ramp-eval\nramp-eval: ramp-model\nramp-model: ramp-gguf\nramp-gguf: half");
        assert_eq!(found, ["ramp-sac: must not depend on ramp-model"]);
    }

    #[test]
    fn a_second_meeting_point_is_found() {
        let found = violations("ramp-embed: ramp-sac ramp-model\nramp-sac: burn\nramp-model: burn");
        assert_eq!(found, ["ramp-embed: only ramp-search may depend on both ramp-sac and ramp-model"]);
    }

    #[test]
    fn a_dependency_on_the_facade_is_found() {
        assert_eq!(violations("ramp-eval: ramp-llm"), ["ramp-eval: must not depend on ramp-llm"]);
    }

    #[test]
    fn burn_below_the_container_is_found() {
        assert!(container_without_burn("ramp-gguf v0.1.0 (path)\nhalf v2.7.1\nhalf v2.7.1 (*)\n").is_empty());
        let found = container_without_burn("ramp-gguf v0.1.0\nburn-tensor v0.22.1\nhalf v2.7.1\n");
        assert_eq!(found, [Violation::new("ramp-gguf", "must not depend on Burn, found burn-tensor")]);
    }
}
