//! The instruments of the proof are tried, too: one that sees nothing would prove anything.
//!
//! These tests stand here and not beside what they try, as the harnesses would have to be compiled twice for them.

mod goals {
    use wigwag_proof::goals::{all, find};

    #[test]
    fn each_is_found_by_its_number_and_by_its_name_alone() {
        for goal in all() {
            for text in [goal.id, &goal.id.to_lowercase(), goal.name] {
                assert_eq!(find(text).map(|found| found.id), Some(goal.id), "{text}");
            }
        }
        assert!(find("G0").is_none() && find("").is_none());
    }
}

mod waiting_model {
    use wigwag_proof::model::sleeping::{client, on_waiting};

    #[test]
    fn a_claim_in_the_models_two_steps_is_the_librarys() {
        for word in [0, 1, 7] {
            let mut whole = word;
            let claimed = on_waiting(&mut whole, |waiting| waiting.claim());
            let mut parts = word;
            let in_parts = client::sees_waiting(parts) && client::swap_waiting(&mut parts);
            assert_eq!((claimed, whole), (in_parts, parts), "from {word}");
        }
    }
}

mod queue_storm {
    use std::sync::atomic::Ordering;
    use wigwag_proof::queues::storm::{Done, committed, done};
    use wigwag_proof::storm::scoreboard::{Extent, Scoreboard};

    #[test]
    fn each_sender_has_its_words() {
        let board = Scoreboard::new(Extent { rows: 1, nonces: 64 * 10, samples: 0 });
        (0..10).for_each(|sender| committed(&board, sender).store(1, Ordering::Relaxed));
        assert_eq!(done(&board, 9).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_done_with_is_known_in_any_order() {
        let mut done = Done::of(0);
        for number in [0, 2, 1, 5, 4, 10, 3] {
            assert_eq!(done.has(number), Some(false), "{number}");
            done = Done::of(done.with(number).word());
            assert_eq!(done.has(number), Some(true), "{number}");
        }
        assert_eq!(done, Done { below: 6, after: 1 << 4 });
        assert_eq!((done.has(13), done.has(14)), (Some(false), None));
    }
}

mod mutants {
    use std::time::Duration;
    use wigwag_proof::audit::mutants::{is_installed, run};

    /// A validator, and a test that calls it and looks at nothing but one value.
    const SOURCE: &str = "
        pub fn fits(len: usize, room: usize) -> bool { len <= room }
        #[test] fn something_fits() { assert!(fits(1, 2)); }
    ";
    const MANIFEST: &str = "[package]\nname = \"fixture\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";

    #[test]
    fn a_check_that_no_test_would_miss_is_found() {
        if !is_installed() {
            println!("skipped: cargo-mutants is not there");
            return;
        }
        let fixture = tempfile::tempdir().unwrap();
        std::fs::create_dir(fixture.path().join("src")).unwrap();
        std::fs::write(fixture.path().join("src/lib.rs"), SOURCE).unwrap();
        std::fs::write(fixture.path().join("Cargo.toml"), MANIFEST).unwrap();
        let target = fixture.path().join("target");
        let tried = run(fixture.path(), &target, &[], Duration::MAX).unwrap().unwrap();
        assert!(tried.noticed > 0, "`false` for all is noticed");
        assert!(tried.unnoticed.iter().any(|mutant| mutant.contains("replace fits -> bool with true")));
    }
}

mod words {
    use wigwag_proof::audit::words::{REVIEWED, Word, word_at};

    #[test]
    fn offsets_are_those_of_the_layout() {
        assert_eq!(word_at(63, 2), Word::Header);
        assert_eq!(word_at(64, 2), Word::Unused);
        assert_eq!(word_at(1152, 2), Word::Waiting);
        assert_eq!(word_at(4096 + 64 + 7, 2), Word::Turn);
        assert_eq!(word_at(4096 + 64 + 8, 2), Word::Head);
        assert_eq!(word_at(4096 + 16, 2), Word::Payload);
        assert_eq!(word_at(4096 + 128, 2), Word::Deadline);
        assert_eq!(word_at(4096 + 144, 2), Word::Unused);
        assert_eq!(word_at(8192, 2), Word::Payload);
    }

    #[test]
    fn every_reviewed_word_has_a_reason_and_needs_one() {
        for row in REVIEWED {
            assert!(row.why.len() > 20 && row.most > 1, "{:?} {}", row.side, row.word);
        }
    }
}

mod ledger {
    use wigwag_proof::storm::ledger::{Balance, Ledger};
    use wigwag_proof::storm::scoreboard::{Extent, Scoreboard};

    #[test]
    fn what_is_executed_twice_and_what_is_lost_is_seen() {
        let board = Scoreboard::new(Extent { rows: 3, nonces: 100, samples: 0 });
        let ledger = Ledger(&board);
        for nonce in 0..100 {
            assert!(ledger.execute(1, nonce) && ledger.acknowledge(1, nonce));
            assert!(!ledger.execute(1, nonce) && !ledger.acknowledge(1, nonce));
        }
        assert!(ledger.execute(2, 64) && ledger.is_executed(2, 64) && !ledger.is_executed(2, 63));
        assert!(ledger.acknowledge(0, 7));
        assert_eq!(ledger.settle(), Balance { executed: 101, acked: 101, lost: 1 });
        assert_eq!(ledger.settle(), Balance::default());
    }
}

mod permits {
    use wigwag_proof::storm::ledger;
    use wigwag_proof::storm::permits_killed::GROUPS;
    use wigwag_proof::storm::scoreboard::Extent;

    #[test]
    fn each_semaphore_has_a_word() {
        assert!(ledger::words(&Extent { rows: 1, nonces: GROUPS * 64, samples: 0 }) >= GROUPS);
    }
}

mod figures {
    use wigwag_proof::storm::figures::Quantiles;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let quantiles = Quantiles::of((1..=200).rev().map(|us| us * 1000).collect());
        assert_eq!((quantiles.p50_ns, quantiles.p99_ns, quantiles.max_ns), (101_000, 199_000, 200_000));
        assert_eq!(Quantiles::of(vec![]).max_ns, 0);
        assert_eq!(Quantiles::of(vec![7]).p99_ns, 7);
    }
}

mod soak {
    use wigwag_proof::storm::soak::slope;

    #[test]
    fn an_outlier_is_no_slope_and_a_leak_is_one() {
        let mut values: Vec<f64> = vec![100.0; 40];
        values[7] = 5000.0;
        values[39] = 900.0;
        assert_eq!(slope(&values), 0.0);
        let leaks: Vec<f64> = (0..40).map(|round| 100.0 + 4.0 * f64::from(round)).collect();
        assert_eq!(slope(&leaks), 4.0);
        assert_eq!(slope(&[1.0]), 0.0);
    }
}

mod parcel {
    use wigwag_proof::storm::parcel::{Content, check_reply, read, reply_len, write};

    #[test]
    fn every_byte_counts() {
        for len in [24, 25, 48, 49, 1000] {
            for nonce in [3, 7] {
                let mut bytes = vec![0; len];
                write(&mut bytes, 5, nonce);
                assert_eq!(read(&bytes), Content::Parcel { row: 5, nonce });
                let mut reply = bytes.clone();
                reply.resize(reply_len(len, nonce, 1500), 0);
                reply.iter_mut().for_each(|byte| *byte = !*byte);
                assert_eq!(check_reply(&reply, len, 5, nonce, 1500), Ok(()));
                for at in 0..len {
                    bytes[at] ^= 4;
                    assert_ne!(read(&bytes), Content::Parcel { row: 5, nonce }, "byte {at}");
                    bytes[at] ^= 4;
                }
                for at in 0..reply.len() {
                    reply[at] ^= 64;
                    assert!(check_reply(&reply, len, 5, nonce, 1500).is_err(), "byte {at}");
                    reply[at] ^= 64;
                }
                assert!(check_reply(&reply[..reply.len() - 1], len, 5, nonce, 1500).is_err());
                assert!(check_reply(&reply, len, 5, nonce + 8, 1500).is_err());
            }
        }
    }
}

mod document {
    use wigwag_proof::outcome::Outcome;
    use wigwag_proof::prove::{Row, with_figures};
    use wigwag_proof::scale::{Scale, Trial};

    fn row(goal: &'static str, figure: &str) -> Row {
        Row { goal, title: "", seconds: 1.6, outcome: Outcome::of(figure, vec![]) }
    }

    #[test]
    fn a_document_keeps_all_but_the_figures_that_are_new() {
        let trial = Trial { scale: Scale::Ci, seed: 1, kills: None, histories: None, history: None };
        let first = with_figures("text\n", &[row("G10", "ten"), row("G2", "two")], &trial);
        let second = with_figures(&(first + "\nmore\n"), &[row("G2", "2 | II")], &trial);
        let table = "| G2 | met | ci | 2 s | 2 \\| II |\n| G10 | met | ci | 2 s | ten |\n";
        assert!(second.starts_with("text\n<!--") && second.ends_with("-->\nmore\n"), "{second}");
        assert!(second.contains(table), "{second}");
        assert_eq!(second.matches("| goal |").count(), 1);
    }
}
