//! The official suites: where they are in a checkout, what they need, and how many of their cases must pass.

/// One suite, and how it is pointed at a server.
pub(super) struct Suite {
    /// What `posthaste-conformance --suite` calls it.
    pub(super) name: &'static str,
    /// Its folder in the checkout.
    pub(super) folder: &'static str,
    /// The published package whose build its tests load as `..`; it lies in the package's folder then.
    pub(super) package: Option<&'static str>,
    /// The file mocha starts with.
    pub(super) entry: &'static str,
    /// Constants that hold the address of the server the tests start themselves upstream.
    pub(super) edits: &'static [Edit],
    /// Parts of the names of cases that cannot apply to a server outside of the tests' process.
    pub(super) inapplicable: &'static [&'static str],
    /// Cases that the suite itself leaves out.
    pub(super) skipped: &'static [&'static str],
    /// How many cases there are to pass.
    pub(super) expected: u64,
}

/// What is replaced in some files of a suite, in each at least once.
pub(super) struct Edit {
    pub(super) files: &'static [&'static str],
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

/// What the tests read the server's address from, once they are edited.
pub(super) const URL: &str = "SUITE_URL";
pub(super) const HOST: &str = "SUITE_HOST";
pub(super) const PORT: &str = "SUITE_PORT";

pub(super) const SUITES: &[Suite] = &[
    Suite {
        name: "engine-v4",
        folder: "docs/engine.io-protocol/v4-test-suite",
        package: None,
        entry: "test-suite.js",
        edits: &[Edit { files: &["test-suite.js"], from: r#""http://localhost:3000""#, to: "process.env.SUITE_URL" }],
        inapplicable: &[],
        skipped: &[],
        expected: 25,
    },
    Suite {
        name: "engine-v3",
        folder: "docs/engine.io-protocol/v3-test-suite",
        package: None,
        entry: "test-suite.js",
        edits: &[Edit { files: &["test-suite.js"], from: r#""http://localhost:3000""#, to: "process.env.SUITE_URL" }],
        inapplicable: &[],
        skipped: &["Engine.IO protocol message HTTP long-polling closes the session upon duplicate poll requests"],
        expected: 23,
    },
    Suite {
        name: "socket-v5",
        folder: "docs/socket.io-protocol/v5-test-suite",
        package: None,
        entry: "test-suite.js",
        edits: &[Edit { files: &["test-suite.js"], from: r#""http://localhost:3000""#, to: "process.env.SUITE_URL" }],
        inapplicable: &[],
        skipped: &[],
        expected: 32,
    },
    Suite {
        name: "client-socketio",
        folder: "packages/socket.io-client",
        package: Some("socket.io-client"),
        entry: "test/index.ts",
        edits: &[Edit {
            files: &[
                "test/support/util.ts",
                "test/fixtures/unref.ts",
                "test/fixtures/unref-polling-only.ts",
                "test/fixtures/unref-websocket-only.ts",
            ],
            from: r#""http://localhost:3210""#,
            to: "process.env.SUITE_URL",
        }],
        // They fake the clock of the tests and of a server in the same process. Against another they fail, and leave the faked
        // clock to all cases behind them.
        inapplicable: &[
            "should use overridden setTimeout by default",
            "should use native setTimeout with useNativeSetTimers",
        ],
        skipped: &[],
        expected: 109,
    },
    Suite {
        name: "client-engineio",
        folder: "packages/engine.io-client",
        package: Some("engine.io-client"),
        entry: "test/index.js",
        edits: &[
            Edit {
                files: &[
                    "test/node.js",
                    "test/fixtures/no-unref.js",
                    "test/fixtures/unref.js",
                    "test/fixtures/unref-polling-only.js",
                    "test/fixtures/unref-websocket-only.js",
                ],
                from: r#""http://localhost:3000""#,
                to: "process.env.SUITE_URL",
            },
            Edit {
                files: &["test/support/env.js"],
                from: r#"hostname: "localhost""#,
                to: "hostname: process.env.SUITE_HOST",
            },
            Edit { files: &["test/support/env.js"], from: "port: 3000", to: "port: process.env.SUITE_PORT" },
        ],
        inapplicable: &[],
        skipped: &["Socket fake timers uses custom timeout when provided"],
        expected: 83,
    },
];

/// What the suites need from npm besides the packages they test. The versions are those they were written for.
pub(super) const MODULES: &[&str] = &[
    "mocha@10",
    "tsx@4.20",
    "chai@4",
    "chai-string@1.5",
    "node-fetch@3",
    "ws@8",
    "expect.js@0.3",
    "has-cors@1",
    "@sinonjs/fake-timers@11",
    "text-blob-builder@0.0",
    "base64-arraybuffer@1",
];
