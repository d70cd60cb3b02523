//! How the synthetic people come about: household by household, every trait drawn from the seed under its own label.

use std::ops::{Range, RangeInclusive};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sammati_kernel::{AadhaarNumber, Key, MobileNumber, Seed};

use crate::names::{self, Name};
use crate::people::{BirthDate, Gender, Person, PersonName, Place, PostalAddress};
use crate::places::{District, STATES, STREETS, State};

/// The last year in which an adult here was born.
pub(crate) const ADULTS_BORN_UNTIL: i32 = 2000;

/// The years in which children here were born; the first of them come of age in 2030.
pub(crate) const CHILDREN_BORN: RangeInclusive<i32> = 2012..=2024;

/// Years between a parent and a child, at least.
pub(crate) const GENERATION: i32 = 20;

/// Goes from house to house; parents are counted before their children.
pub(crate) struct Census {
    seed: Seed,
    token_key: Key,
    people: Vec<Person>,
    households: usize,
    mobiles: u64,
}

/// What the members of a household have in common.
struct Household {
    seed: Seed,
    name: String,
    state: &'static State,
    district: &'static District,
    line: String,
    family: Name,
}

/// What is particular to a member.
struct Member {
    first: Name,
    middle: Option<Name>,
    gender: Gender,
    birth: BirthDate,
    mobile: Option<MobileNumber>,
    parents: Vec<AadhaarNumber>,
}

impl Census {
    /// A census that has been nowhere yet.
    pub(crate) fn new(seed: Seed) -> Self {
        let token_key = Key::from_bytes(seed.bytes("UID tokens"));
        Self {
            seed,
            token_key,
            people: Vec::new(),
            households: 0,
            mobiles: 0,
        }
    }

    /// The first `count` people.
    pub(crate) fn take(mut self, count: usize) -> Vec<Person> {
        while self.people.len() < count {
            self.add_household();
        }
        self.people.truncate(count);
        self.people
    }

    /// One or two adults, sometimes a grandparent, none to three children.
    fn add_household(&mut self) {
        let home = self.next_home();
        let first_adult = self.people.len();
        let single = home.below("single", 4) == 0;
        let woman = home.below("woman", 2) == 0;
        let born = year(1978, home.below("born", 19));
        self.add_adult(
            &home,
            "first adult",
            if woman { Gender::Female } else { Gender::Male },
            born,
        );
        if single && home.below("other", 8) == 0 {
            self.people[first_adult].gender = Gender::Other;
        }
        if !single {
            let other = if woman { Gender::Male } else { Gender::Female };
            self.add_adult(&home, "second adult", other, year(1978, home.below("second born", 19)));
        }
        let after_parents = self.people.len();
        self.add_children(&home, first_adult..after_parents);
        if home.below("grandparent", 4) == 0 {
            let gender = if home.below("grandmother", 2) == 0 {
                Gender::Female
            } else {
                Gender::Male
            };
            self.add_adult(
                &home,
                "grandparent",
                gender,
                year(1945, home.below("grandparent born", 12)),
            );
        }
    }

    fn next_home(&mut self) -> Household {
        self.households += 1;
        let seed = self.seed.child(&format!("household {}", self.households));
        // States in turn: the first fourteen households show every script.
        let state = &STATES[(self.households - 1) % STATES.len()];
        let district = pick(&seed, "district", state.districts);
        let line = format!("{}, {}", 1 + seed.below("house", 400), pick(&seed, "street", STREETS));
        let family = *pick(&seed, "family", names::of(state.language).families);
        Household {
            seed,
            name: format!("household-{}", self.households),
            state,
            district,
            line,
            family,
        }
    }

    /// The first adult of a household has a mobile of her own; another one has one too, shares the first one's or has
    /// none.
    fn add_adult(&mut self, home: &Household, who: &str, gender: Gender, born: i32) {
        let first_of_home = self
            .people
            .iter()
            .find(|p| p.household == home.name)
            .map(|p| p.mobile.clone());
        let mobile = match (first_of_home, home.below(&format!("{who}'s mobile"), 8)) {
            (Some(shared), 0 | 1) => shared,
            (Some(_), 2) => None,
            _ => self.next_mobile(),
        };
        let first = home.first_name(who, gender);
        let birth = home.birth(who, born.min(ADULTS_BORN_UNTIL));
        self.add(
            home,
            Member {
                first,
                middle: None,
                gender,
                birth,
                mobile,
                parents: Vec::new(),
            },
        );
    }

    /// Children of the people at `parents`, born when those are grown up, with the first parent's mobile.
    fn add_children(&mut self, home: &Household, parents: Range<usize>) {
        let parents: Vec<Person> = self.people[parents].to_vec();
        let youngest = parents.iter().map(|p| p.birth.year).max().unwrap_or(ADULTS_BORN_UNTIL);
        let from = (youngest + GENERATION).max(*CHILDREN_BORN.start());
        let years = u64::try_from(*CHILDREN_BORN.end() - from + 1).unwrap_or(1);
        let father = parents.iter().find(|p| p.gender == Gender::Male);
        let names = names::of(home.state.language);
        for n in 0..home.below("children", 4) {
            let who = format!("child {n}");
            let gender = if home.below(&format!("{who} is a girl"), 2) == 0 {
                Gender::Female
            } else {
                Gender::Male
            };
            let born = year(from, home.below(&format!("{who} born"), years));
            let middle = father.filter(|_| names.patronymic);
            let member = Member {
                first: home.first_name(&who, gender),
                middle: middle.and_then(|f| names.men.iter().find(|n| n.0 == f.names.first).copied()),
                gender,
                birth: home.birth(&who, born),
                mobile: parents.first().and_then(|p| p.mobile.clone()),
                parents: parents.iter().map(|p| p.aadhaar.clone()).collect(),
            };
            self.add(home, member);
        }
    }

    fn add(&mut self, home: &Household, member: Member) {
        let aadhaar = self.next_number();
        let token = self.token_key.mac("UID token", aadhaar.expose().as_bytes());
        let middle = member.middle.unwrap_or_default();
        let place = |code, name| Place { code, name };
        let local: Vec<&str> = [member.first.1, middle.1, home.family.1]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        self.people.push(Person {
            aadhaar,
            uid_token: URL_SAFE_NO_PAD.encode(token),
            names: PersonName {
                first: member.first.0.to_owned(),
                middle: middle.0.to_owned(),
                last: home.family.0.to_owned(),
            },
            local_name: local.join(" "),
            language: home.state.language,
            gender: member.gender,
            birth: member.birth,
            mobile: member.mobile,
            postal: PostalAddress {
                line: home.line.clone(),
                town: home.district.town,
                district: place(home.district.code, home.district.name),
                state: place(home.state.code, home.state.name),
                pincode: home.district.pincode,
            },
            household: home.name.clone(),
            parents: member.parents,
        });
    }

    /// 9999, seven digits that no two people share (up to ten million), and the check digit.
    fn next_number(&self) -> AadhaarNumber {
        let n = self.people.len() as u64;
        let mut rest = scattered(self.seed.below("first number", 10_000_000), n, 10_000_000);
        let mut body = [9; 11];
        for digit in body[4..].iter_mut().rev() {
            *digit = u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        AadhaarNumber::from_body(&body).expect("eleven digits, the first a 9")
    }

    /// 9000 and six digits that no two people share unless meant to (up to a million).
    fn next_mobile(&mut self) -> Option<MobileNumber> {
        self.mobiles += 1;
        let rest = scattered(self.seed.below("first mobile", 1_000_000), self.mobiles, 1_000_000);
        MobileNumber::parse(&format!("9000{rest:06}")).ok()
    }
}

impl Household {
    fn below(&self, label: &str, bound: u64) -> u64 {
        self.seed.below(label, bound)
    }

    fn first_name(&self, who: &str, gender: Gender) -> Name {
        let names = names::of(self.state.language);
        let choice = if gender == Gender::Female {
            names.women
        } else {
            names.men
        };
        *pick(&self.seed, &format!("{who}'s name"), choice)
    }

    /// A day in `year`; of one adult in twelve only the year is known.
    fn birth(&self, who: &str, year: i32) -> BirthDate {
        let draw = |what: &str, bound| i32::try_from(self.below(&format!("{who}'s {what}"), bound)).unwrap_or(0);
        if year <= ADULTS_BORN_UNTIL && draw("birthday is known", 12) == 0 {
            return BirthDate { year, month: 0, day: 0 };
        }
        BirthDate {
            year,
            month: 1 + draw("month", 12),
            day: 1 + draw("day", 28),
        }
    }
}

/// One of `choice`, which is not empty.
fn pick<'a, T>(seed: &Seed, label: &str, choice: &'a [T]) -> &'a T {
    let i = seed.below(label, choice.len() as u64);
    &choice[usize::try_from(i).unwrap_or(0)]
}

fn year(from: i32, more: u64) -> i32 {
    from + i32::try_from(more).unwrap_or(0)
}

/// The `n`th of `modulus` (a power of ten) values in an order that does not look like one; no two alike.
const fn scattered(start: u64, n: u64, modulus: u64) -> u64 {
    // The step ends in 1, so it has no factor in common with a power of ten.
    (start + n * 7_654_321) % modulus
}
