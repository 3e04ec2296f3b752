//! Nothing: what matters are the cases, and the test that compiles them.
