//! Where the synthetic people live: states and districts by their codes in the Local Government Directory.

/// A state.
pub(crate) struct State {
    /// LGD code.
    pub(crate) code: &'static str,
    /// English name.
    pub(crate) name: &'static str,
    /// What is spoken there, BCP 47: a language of [`crate::names::NAMES`].
    pub(crate) language: &'static str,
    /// Some of its districts.
    pub(crate) districts: &'static [District],
}

/// A district and its chief town.
pub(crate) struct District {
    /// LGD code.
    pub(crate) code: &'static str,
    /// English name.
    pub(crate) name: &'static str,
    /// Chief town.
    pub(crate) town: &'static str,
    /// PIN code of the town's head post office.
    pub(crate) pincode: &'static str,
}

const fn state(
    code: &'static str,
    name: &'static str,
    language: &'static str,
    districts: &'static [District],
) -> State {
    State {
        code,
        name,
        language,
        districts,
    }
}

const fn district(code: &'static str, name: &'static str, town: &'static str, pincode: &'static str) -> District {
    District {
        code,
        name,
        town,
        pincode,
    }
}

/// The states, in the order of their codes.
pub(crate) const STATES: &[State] = &[
    state(
        "3",
        "Punjab",
        "pa",
        &[
            district("36", "Ludhiana", "Ludhiana", "141001"),
            district("27", "Amritsar", "Amritsar", "143001"),
            district("41", "Patiala", "Patiala", "147001"),
            district("34", "Jalandhar", "Jalandhar", "144001"),
        ],
    ),
    state(
        "8",
        "Rajasthan",
        "hi",
        &[
            district("102", "Jaipur", "Jaipur", "302001"),
            district("107", "Jodhpur", "Jodhpur", "342001"),
            district("117", "Udaipur", "Udaipur", "313001"),
            district("109", "Kota", "Kota", "324001"),
        ],
    ),
    state(
        "9",
        "Uttar Pradesh",
        "hi",
        &[
            district("162", "Lucknow", "Lucknow", "226001"),
            district("187", "Varanasi", "Varanasi", "221001"),
            district("120", "Prayagraj", "Prayagraj", "211001"),
            district("148", "Gorakhpur", "Gorakhpur", "273001"),
        ],
    ),
    state(
        "10",
        "Bihar",
        "hi",
        &[
            district("212", "Patna", "Patna", "800001"),
            district("196", "Gaya", "Gaya", "823001"),
            district("208", "Muzaffarpur", "Muzaffarpur", "842001"),
            district("192", "Bhagalpur", "Bhagalpur", "812001"),
        ],
    ),
    state(
        "19",
        "West Bengal",
        "bn",
        &[
            district("315", "Kolkata", "Kolkata", "700001"),
            district("313", "Howrah", "Howrah", "711101"),
            district("320", "Nadia", "Krishnanagar", "741101"),
            district("309", "Darjeeling", "Darjeeling", "734101"),
        ],
    ),
    state(
        "21",
        "Odisha",
        "or",
        &[
            district("362", "Khordha", "Bhubaneswar", "751001"),
            district("350", "Cuttack", "Cuttack", "753001"),
            district("371", "Sambalpur", "Sambalpur", "768001"),
            district("369", "Puri", "Puri", "752001"),
        ],
    ),
    state(
        "23",
        "Madhya Pradesh",
        "hi",
        &[
            district("396", "Bhopal", "Bhopal", "462001"),
            district("410", "Indore", "Indore", "452001"),
            district("407", "Gwalior", "Gwalior", "474001"),
            district("411", "Jabalpur", "Jabalpur", "482001"),
        ],
    ),
    state(
        "24",
        "Gujarat",
        "gu",
        &[
            district("438", "Ahmadabad", "Ahmedabad", "380001"),
            district("459", "Surat", "Surat", "395003"),
            district("457", "Rajkot", "Rajkot", "360001"),
            district("461", "Vadodara", "Vadodara", "390001"),
        ],
    ),
    state(
        "27",
        "Maharashtra",
        "mr",
        &[
            district("490", "Pune", "Pune", "411001"),
            district("484", "Nagpur", "Nagpur", "440001"),
            district("487", "Nashik", "Nashik", "422001"),
            district("482", "Mumbai", "Mumbai", "400001"),
        ],
    ),
    state(
        "28",
        "Andhra Pradesh",
        "te",
        &[
            district("520", "Visakhapatnam", "Visakhapatnam", "530001"),
            district("506", "Guntur", "Guntur", "522001"),
            district("511", "Kurnool", "Kurnool", "518001"),
            district("503", "Chittoor", "Chittoor", "517001"),
        ],
    ),
    state(
        "29",
        "Karnataka",
        "kn",
        &[
            district("525", "Bengaluru Urban", "Bengaluru", "560001"),
            district("545", "Mysuru", "Mysuru", "570001"),
            district("536", "Dharwad", "Dharwad", "580001"),
            district("549", "Udupi", "Udupi", "576101"),
        ],
    ),
    state(
        "32",
        "Kerala",
        "ml",
        &[
            district("565", "Thiruvananthapuram", "Thiruvananthapuram", "695001"),
            district("555", "Ernakulam", "Kochi", "682011"),
            district("561", "Kozhikode", "Kozhikode", "673001"),
            district("566", "Thrissur", "Thrissur", "680001"),
        ],
    ),
    state(
        "33",
        "Tamil Nadu",
        "ta",
        &[
            district("568", "Chennai", "Chennai", "600001"),
            district("569", "Coimbatore", "Coimbatore", "641001"),
            district("578", "Madurai", "Madurai", "625001"),
            district("584", "Salem", "Salem", "636001"),
        ],
    ),
    state(
        "36",
        "Telangana",
        "te",
        &[
            district("507", "Hyderabad", "Hyderabad", "500001"),
            district("508", "Karimnagar", "Karimnagar", "505001"),
            district("509", "Khammam", "Khammam", "507001"),
            district("516", "Nizamabad", "Nizamabad", "503001"),
        ],
    ),
];

/// Streets that every town has.
pub(crate) const STREETS: &[&str] = &[
    "Station Road",
    "Gandhi Road",
    "Nehru Street",
    "Temple Street",
    "Lake View Road",
    "Market Road",
    "School Lane",
    "Hospital Road",
];
