use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What the store would have, without one.
#[derive(Default)]
struct Kept(BTreeMap<Place, Vec<u8>>);

impl Kept {
    fn merge(&mut self, merge: Merge) {
        let mut all = Vec::new();
        for place in merge.from() {
            let page = self.0.insert(place, Vec::new()).expect("what is merged is there");
            all.extend(page::decode(&page, place.first()).unwrap());
        }
        assert!(!all.is_empty() || merge.level > 1, "{merge:?} has nothing to merge");
        all.sort_unstable();
        for place in merge.into() {
            let of: Vec<_> = all
                .iter()
                .copied()
                .filter(|p| p.0.page(merge.level) == place.page)
                .collect();
            let before = self.0.insert(place, page::encode(&of, place.first()));
            assert_eq!(before, None, "{place:?} is made once");
        }
    }

    fn find(&self, reach: Reach, tag: Tag) -> Vec<u64> {
        let of = |place: Place| page::find(&self.0[&place], place.first(), tag).unwrap();
        reach.pages(tag).flat_map(|place| of(place).into_iter().rev()).collect()
    }
}

fn tag(n: u64) -> Tag {
    // Spread as hashes are, and some at both ends.
    match n {
        0 => Tag([0; 5]),
        1 => Tag([255; 5]),
        n => Tag((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24).to_be_bytes()[3..]
            .try_into()
            .unwrap()),
    }
}

/// At every length, and while merges are behind, each tag is found at all leaves that have it, newest first.
#[test]
fn every_posting_is_found_at_every_length() {
    let tags = 40;
    let (mut kept, mut reach) = (Kept::default(), Reach { posted: 0, merged: 0 });
    let mut wanted: BTreeMap<Tag, Vec<u64>> = BTreeMap::new();
    for run in 0..700 {
        // A few leaves of each run have tags; one tag is in all of them.
        let mut postings = Vec::new();
        for n in 0..4 {
            let leaf = run * RUN + n * 50;
            for tag in [tag(2), tag(3 + (run * 7 + n * 13) % tags), tag((run + n) % 2)] {
                postings.push((tag, leaf));
                wanted.entry(tag).or_default().push(leaf);
            }
        }
        postings.sort_unstable();
        let place = Place { level: 0, run, page: 0 };
        kept.0.insert(place, page::encode(&postings, place.first()));
        reach.posted += 1;
        // Some of the merges come late.
        while reach.posted >= reach.merged + FAN && run % 40 < 30 {
            reach.merged += FAN;
            Merge::due(reach.merged).for_each(|merge| kept.merge(merge));
        }
        if run % 9 == 0 || run > 680 {
            for (tag, leaves) in &wanted {
                let newest_first: Vec<_> = leaves.iter().rev().copied().collect();
                assert_eq!(kept.find(reach, *tag), newest_first, "after {run} runs");
                for leaf in leaves {
                    let place = reach.place(*tag, *leaf).expect("it is posted");
                    assert!(page::find(&kept.0[&place], place.first(), *tag).unwrap().contains(leaf));
                }
                assert_eq!(reach.place(*tag, reach.posted * RUN), None);
            }
        }
    }
    let looked = reach.pages(tag(2)).count();
    assert!(looked < 80, "700 runs are looked for in {looked} pages");
    // Each posting is kept once.
    let all: usize = kept
        .0
        .iter()
        .map(|(place, page)| page::decode(page, place.first()).unwrap().len())
        .sum();
    assert_eq!(all, wanted.values().map(Vec::len).sum::<usize>());
}

proptest! {
    /// Where a tag is looked for, its merges put it: at any reach the runs of its pages follow one another without a hole,
    /// and were made and not yet merged.
    #[test]
    fn the_pages_of_a_tag_cover_all_runs_once(posted in 0_u64..2_000_000, late in 0_u64..40, n in 0_u64..1000) {
        let merged = posted.saturating_sub(late) / FAN * FAN;
        let (reach, tag) = (Reach { posted, merged }, tag(n));
        let mut end = posted;
        for place in reach.pages(tag) {
            let runs = span(place.level);
            prop_assert_eq!((place.run + 1) * runs, end, "{:?}", place);
            end = place.run * runs;
            prop_assert_eq!(place.page, tag.page(place.level));
        }
        prop_assert_eq!(end, 0);
        prop_assert!(reach.pages(tag).count() < 260);
    }
}
