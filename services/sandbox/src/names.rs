//! What the synthetic people are called: common names by language, in Latin letters and in the language's own script.

/// A name: in Latin letters, and in the script of its language.
pub(crate) type Name = (&'static str, &'static str);

/// The names of one language.
pub(crate) struct Names {
    /// BCP 47.
    pub(crate) language: &'static str,
    /// Whether a child bears its father's first name in the middle.
    pub(crate) patronymic: bool,
    /// First names of women.
    pub(crate) women: &'static [Name],
    /// First names of men.
    pub(crate) men: &'static [Name],
    /// Last names.
    pub(crate) families: &'static [Name],
}

/// The names of `language`; those of Hindi for one that has none here.
pub(crate) fn of(language: &str) -> &'static Names {
    NAMES.iter().find(|n| n.language == language).unwrap_or(&NAMES[0])
}

/// All languages, Hindi first.
#[rustfmt::skip]
pub(crate) const NAMES: [Names; 10] = [
    Names {
        language: "hi",
        patronymic: false,
        women: &[
            ("Asha", "आशा"), ("Sunita", "सुनीता"), ("Kavita", "कविता"), ("Priya", "प्रिया"),
            ("Neha", "नेहा"), ("Rekha", "रेखा"), ("Meena", "मीना"), ("Pooja", "पूजा"),
        ],
        men: &[
            ("Rajesh", "राजेश"), ("Amit", "अमित"), ("Sanjay", "संजय"), ("Vijay", "विजय"),
            ("Rahul", "राहुल"), ("Anil", "अनिल"), ("Manoj", "मनोज"), ("Deepak", "दीपक"),
        ],
        families: &[
            ("Sharma", "शर्मा"), ("Verma", "वर्मा"), ("Gupta", "गुप्ता"), ("Mishra", "मिश्रा"),
            ("Yadav", "यादव"), ("Tiwari", "तिवारी"), ("Chauhan", "चौहान"), ("Srivastava", "श्रीवास्तव"),
        ],
    },
    Names {
        language: "mr",
        patronymic: true,
        women: &[
            ("Anjali", "अंजली"), ("Vaishali", "वैशाली"), ("Manisha", "मनीषा"), ("Snehal", "स्नेहल"),
            ("Swati", "स्वाती"), ("Ujjwala", "उज्ज्वला"), ("Shubhangi", "शुभांगी"), ("Ashwini", "अश्विनी"),
        ],
        men: &[
            ("Sachin", "सचिन"), ("Ganesh", "गणेश"), ("Prakash", "प्रकाश"), ("Nitin", "नितीन"),
            ("Santosh", "संतोष"), ("Mahesh", "महेश"), ("Vikas", "विकास"), ("Sandip", "संदीप"),
        ],
        families: &[
            ("Patil", "पाटील"), ("Deshmukh", "देशमुख"), ("Joshi", "जोशी"), ("Kulkarni", "कुलकर्णी"),
            ("Shinde", "शिंदे"), ("Pawar", "पवार"), ("Jadhav", "जाधव"), ("More", "मोरे"),
        ],
    },
    Names {
        language: "ta",
        patronymic: false,
        women: &[
            ("Lakshmi", "லட்சுமி"), ("Meenakshi", "மீனாட்சி"), ("Kavitha", "கவிதா"), ("Revathi", "ரேவதி"),
            ("Selvi", "செல்வி"), ("Malathi", "மாலதி"), ("Deepa", "தீபா"), ("Anitha", "அனிதா"),
        ],
        men: &[
            ("Murugan", "முருகன்"), ("Karthik", "கார்த்திக்"), ("Senthil", "செந்தில்"), ("Arun", "அருண்"),
            ("Suresh", "சுரேஷ்"), ("Prabhu", "பிரபு"), ("Vignesh", "விக்னேஷ்"), ("Mani", "மணி"),
        ],
        families: &[
            ("Subramanian", "சுப்பிரமணியன்"), ("Rajendran", "ராஜேந்திரன்"), ("Natarajan", "நடராஜன்"),
            ("Krishnan", "கிருஷ்ணன்"), ("Sundaram", "சுந்தரம்"), ("Pandian", "பாண்டியன்"),
            ("Ramasamy", "ராமசாமி"), ("Arumugam", "ஆறுமுகம்"),
        ],
    },
    Names {
        language: "te",
        patronymic: false,
        women: &[
            ("Padma", "పద్మ"), ("Lavanya", "లావణ్య"), ("Swapna", "స్వప్న"), ("Sravani", "శ్రావణి"),
            ("Lalitha", "లలిత"), ("Anusha", "అనూష"), ("Sujatha", "సుజాత"), ("Bhavani", "భవాని"),
        ],
        men: &[
            ("Srinivas", "శ్రీనివాస్"), ("Venkatesh", "వెంకటేష్"), ("Ravi", "రవి"), ("Naresh", "నరేష్"),
            ("Kiran", "కిరణ్"), ("Ramesh", "రమేష్"), ("Chandra", "చంద్ర"), ("Prasad", "ప్రసాద్"),
        ],
        families: &[
            ("Reddy", "రెడ్డి"), ("Rao", "రావు"), ("Naidu", "నాయుడు"), ("Chowdary", "చౌదరి"),
            ("Varma", "వర్మ"), ("Goud", "గౌడ్"), ("Raju", "రాజు"), ("Sastry", "శాస్త్రి"),
        ],
    },
    Names {
        language: "kn",
        patronymic: false,
        women: &[
            ("Shobha", "ಶೋಭಾ"), ("Geetha", "ಗೀತಾ"), ("Savitha", "ಸವಿತಾ"), ("Roopa", "ರೂಪಾ"),
            ("Kavya", "ಕಾವ್ಯ"), ("Nagarathna", "ನಾಗರತ್ನ"), ("Sudha", "ಸುಧಾ"), ("Ashwini", "ಅಶ್ವಿನಿ"),
        ],
        men: &[
            ("Manjunath", "ಮಂಜುನಾಥ್"), ("Raghavendra", "ರಾಘವೇಂದ್ರ"), ("Basavaraj", "ಬಸವರಾಜ್"), ("Girish", "ಗಿರೀಶ್"),
            ("Harish", "ಹರೀಶ್"), ("Nagaraj", "ನಾಗರಾಜ್"), ("Shivakumar", "ಶಿವಕುಮಾರ್"), ("Praveen", "ಪ್ರವೀಣ್"),
        ],
        families: &[
            ("Gowda", "ಗೌಡ"), ("Hegde", "ಹೆಗಡೆ"), ("Shetty", "ಶೆಟ್ಟಿ"), ("Bhat", "ಭಟ್"),
            ("Patil", "ಪಾಟೀಲ್"), ("Kulkarni", "ಕುಲಕರ್ಣಿ"), ("Murthy", "ಮೂರ್ತಿ"), ("Rai", "ರೈ"),
        ],
    },
    Names {
        language: "ml",
        patronymic: false,
        women: &[
            ("Sreeja", "ശ്രീജ"), ("Bindu", "ബിന്ദു"), ("Deepthi", "ദീപ്തി"), ("Latha", "ലത"),
            ("Anju", "അഞ്ജു"), ("Reshma", "രേഷ്മ"), ("Sheela", "ഷീല"), ("Divya", "ദിവ്യ"),
        ],
        men: &[
            ("Rajeev", "രാജീവ്"), ("Anoop", "അനൂപ്"), ("Biju", "ബിജു"), ("Sunil", "സുനിൽ"),
            ("Vinod", "വിനോദ്"), ("Jayan", "ജയൻ"), ("Manoj", "മനോജ്"), ("Sajith", "സജിത്ത്"),
        ],
        families: &[
            ("Nair", "നായർ"), ("Menon", "മേനോൻ"), ("Pillai", "പിള്ള"), ("Kurup", "കുറുപ്പ്"),
            ("Varghese", "വർഗീസ്"), ("Thomas", "തോമസ്"), ("Panicker", "പണിക്കർ"), ("Nambiar", "നമ്പ്യാർ"),
        ],
    },
    Names {
        language: "bn",
        patronymic: false,
        women: &[
            ("Mousumi", "মৌসুমী"), ("Rupa", "রূপা"), ("Sharmila", "শর্মিলা"), ("Tanusree", "তনুশ্রী"),
            ("Ananya", "অনন্যা"), ("Mitali", "মিতালী"), ("Sumana", "সুমনা"), ("Papiya", "পাপিয়া"),
        ],
        men: &[
            ("Subrata", "সুব্রত"), ("Debashis", "দেবাশিস"), ("Arindam", "অরিন্দম"), ("Sourav", "সৌরভ"),
            ("Tapan", "তপন"), ("Partha", "পার্থ"), ("Abhijit", "অভিজিৎ"), ("Sujoy", "সুজয়"),
        ],
        families: &[
            ("Banerjee", "ব্যানার্জী"), ("Chatterjee", "চ্যাটার্জী"), ("Das", "দাস"), ("Ghosh", "ঘোষ"),
            ("Mondal", "মণ্ডল"), ("Sarkar", "সরকার"), ("Bose", "বসু"), ("Roy", "রায়"),
        ],
    },
    Names {
        language: "gu",
        patronymic: true,
        women: &[
            ("Hetal", "હેતલ"), ("Jyoti", "જ્યોતિ"), ("Nisha", "નિશા"), ("Bhavna", "ભાવના"),
            ("Kinjal", "કિંજલ"), ("Daksha", "દક્ષા"), ("Komal", "કોમલ"), ("Urvashi", "ઉર્વશી"),
        ],
        men: &[
            ("Jignesh", "જીજ્ઞેશ"), ("Hitesh", "હિતેશ"), ("Bhavesh", "ભાવેશ"), ("Nilesh", "નિલેશ"),
            ("Chirag", "ચિરાગ"), ("Paresh", "પરેશ"), ("Ketan", "કેતન"), ("Dharmesh", "ધર્મેશ"),
        ],
        families: &[
            ("Patel", "પટેલ"), ("Shah", "શાહ"), ("Desai", "દેસાઈ"), ("Mehta", "મહેતા"),
            ("Parmar", "પરમાર"), ("Solanki", "સોલંકી"), ("Trivedi", "ત્રિવેદી"), ("Chaudhari", "ચૌધરી"),
        ],
    },
    Names {
        language: "pa",
        patronymic: false,
        women: &[
            ("Harpreet", "ਹਰਪ੍ਰੀਤ"), ("Manpreet", "ਮਨਪ੍ਰੀਤ"), ("Simran", "ਸਿਮਰਨ"), ("Jasleen", "ਜਸਲੀਨ"),
            ("Rupinder", "ਰੁਪਿੰਦਰ"), ("Navneet", "ਨਵਨੀਤ"), ("Kiran", "ਕਿਰਨ"), ("Paramjit", "ਪਰਮਜੀਤ"),
        ],
        men: &[
            ("Gurpreet", "ਗੁਰਪ੍ਰੀਤ"), ("Jaswinder", "ਜਸਵਿੰਦਰ"), ("Balwinder", "ਬਲਵਿੰਦਰ"), ("Amandeep", "ਅਮਨਦੀਪ"),
            ("Kuldeep", "ਕੁਲਦੀਪ"), ("Sukhdev", "ਸੁਖਦੇਵ"), ("Ranjit", "ਰਣਜੀਤ"), ("Tejinder", "ਤੇਜਿੰਦਰ"),
        ],
        families: &[
            ("Gill", "ਗਿੱਲ"), ("Sandhu", "ਸੰਧੂ"), ("Dhillon", "ਢਿੱਲੋਂ"), ("Sidhu", "ਸਿੱਧੂ"),
            ("Brar", "ਬਰਾੜ"), ("Grewal", "ਗਰੇਵਾਲ"), ("Bains", "ਬੈਂਸ"), ("Sohal", "ਸੋਹਲ"),
        ],
    },
    Names {
        language: "or",
        patronymic: false,
        women: &[
            ("Sasmita", "ସସ୍ମିତା"), ("Mamata", "ମମତା"), ("Sabita", "ସବିତା"), ("Puspanjali", "ପୁଷ୍ପାଞ୍ଜଳି"),
            ("Rashmita", "ରଶ୍ମିତା"), ("Gitanjali", "ଗୀତାଞ୍ଜଳି"), ("Lipika", "ଲିପିକା"), ("Itishree", "ଇତିଶ୍ରୀ"),
        ],
        men: &[
            ("Bijay", "ବିଜୟ"), ("Prasanta", "ପ୍ରଶାନ୍ତ"), ("Sanjib", "ସଞ୍ଜୀବ"), ("Ramakanta", "ରମାକାନ୍ତ"),
            ("Debasish", "ଦେବାଶିଷ"), ("Manas", "ମାନସ"), ("Pradeep", "ପ୍ରଦୀପ"), ("Soumya", "ସୌମ୍ୟ"),
        ],
        families: &[
            ("Mohanty", "ମହାନ୍ତି"), ("Das", "ଦାସ"), ("Nayak", "ନାୟକ"), ("Sahoo", "ସାହୁ"),
            ("Pradhan", "ପ୍ରଧାନ"), ("Behera", "ବେହେରା"), ("Panda", "ପଣ୍ଡା"), ("Jena", "ଜେନା"),
        ],
    },
];
