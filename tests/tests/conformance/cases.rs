//! The table of ABDM's certification cases: every case in it has a state, and every test that it names is one.

use std::path::Path;

use sammati_tests::named::has_test;

/// A row: its case, its state, and the tests that it names.
struct Row {
    case: String,
    state: String,
    tests: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn rows() -> Vec<Row> {
    let table = std::fs::read_to_string(root().join("tests/abdm_cases.md")).expect("the table");
    let lines = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| case") && !line.starts_with("| ---"));
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [case, _, state, by] = cells[..] else {
            panic!("not four cells: {line}")
        };
        Row {
            case: case.to_owned(),
            state: state.to_owned(),
            tests: by.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        }
    };
    lines.map(row).collect()
}

/// The files of the consent service's tests.
fn files() -> Vec<String> {
    let folder = root().join("services/consent/tests/consent");
    let files = std::fs::read_dir(folder).expect("the tests");
    let paths = files.map(|file| file.expect("a file").path());
    paths
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).expect("its text"))
        .collect()
}

#[test]
fn every_certification_case_says_by_which_tests_it_is_covered_or_why_not() {
    let (rows, files) = (rows(), files());
    assert!(
        rows.len() >= 41 && files.len() >= 40,
        "{} cases, {} files",
        rows.len(),
        files.len()
    );
    for Row {
        case,
        state,
        tests: named,
    } in rows
    {
        assert!(
            ["covered", "not ours", "open"].contains(&state.as_str()),
            "{case} is {state}"
        );
        assert_eq!(
            state == "covered",
            !named.is_empty() && state != "not ours",
            "{case} is {state} by {named:?}"
        );
        for name in named {
            let is_one = files.iter().any(|code| has_test(code, &name));
            assert!(is_one, "{case} names {name}, which is no test that is run");
        }
    }
}
