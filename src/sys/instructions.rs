//! What a piece of code costs, in instructions, counted by valgrind: the same on every run, however busy the machine is. So whether something takes
//! as long for one input as for another can be tested without a clock. For tests.

use std::process::Command;

/// Holds the input in the process that is counted.
const INPUT: &str = "MERIDIAN_COUNTED_INPUT";

/// In the process that is counted: the input.
pub(crate) fn input() -> Option<String> {
    std::env::var_os(INPUT).and_then(|input| input.into_string().ok())
}

/// Runs the test of this path again, under valgrind with an input, and counts the instructions of the function `measured` of its module alone.
pub(crate) fn counted(test: &str, input: &str) -> u64 {
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{}*measured*", test.split("::").nth(1).unwrap_or("")))
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test])
        .env(INPUT, input)
        .output()
        .expect("valgrind is installed (scripts/test.sh sees to it)");
    let said = String::from_utf8_lossy(&done.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("valgrind counted nothing: {said}"));
    assert!(done.status.success(), "{said}");
    collected.1.trim().parse().expect("a number")
}
