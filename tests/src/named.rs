//! Tests that documents and tables name: is there one, and is it run?

/// Whether `code` has a test of this name that is run: `#[test]` or `#[tokio::test…]` right above the function, not ignored,
/// and nothing in it that skips it.
pub fn has_test(code: &str, name: &str) -> bool {
    let (sync, asynchronous) = (format!("fn {name}("), format!("async fn {name}("));
    let lines: Vec<&str> = code.lines().collect();
    let is_it = |line: &&str| line.trim().starts_with(&sync) || line.trim().starts_with(&asynchronous);
    let Some(at) = lines.iter().position(is_it) else {
        return false;
    };
    let above = lines[..at].iter().rev().map(|line| line.trim());
    let above: Vec<_> = above
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .collect();
    let is_test = |line: &&str| *line == "#[test]" || line.starts_with("#[tokio::test");
    let is_ignored = |line: &&str| line.starts_with("#[ignore");
    above.iter().any(is_test) && !above.iter().any(is_ignored) && !skips(&lines[at..])
}

/// Whether the function that begins here may say that it was skipped.
fn skips(lines: &[&str]) -> bool {
    let Some(first) = lines.first() else { return false };
    let end = format!("{}}}", &first[..first.len() - first.trim_start().len()]);
    let body = lines.iter().take_while(|line| **line != end);
    body.into_iter().any(|line| line.contains("SKIPPED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_run_counts_as_a_test() {
        for code in [
            "#[test]\nfn a() {}",
            "    #[tokio::test(flavor = \"multi_thread\")]\n    async fn a() {}",
            "#[test]\nfn a() {\n    b();\n}\n\n#[test]\nfn b() {\n    eprintln!(\"SKIPPED\");\n}",
        ] {
            assert!(has_test(code, "a"), "{code}");
        }
        for code in [
            "fn a() {}",
            "// fn a() {}",
            "#[test]\n#[ignore = \"slow\"]\nfn a() {}",
            "#[test]\nfn b() {}\n\nfn a() {}",
            "#[test]\nfn a_b() {}",
            "#[test]\nfn a() {\n    if absent() {\n        eprintln!(\"SKIPPED: no such thing\");\n        return;\n    }\n}",
        ] {
            assert!(!has_test(code, "a"), "{code}");
        }
    }
}
