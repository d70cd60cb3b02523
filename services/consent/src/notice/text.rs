//! The words of the built-in notices. A version never changes: to change a word is to add a version.

use sammati_kernel::PurposeCode;

/// When version 1 was published: 2026-11-22T00:00:00Z.
pub(super) const PUBLISHED: i64 = 1_795_305_600;

/// The words of one notice in one language.
pub(super) struct Words {
    pub(super) language: &'static str,
    pub(super) title: &'static str,
    /// Why the records are asked for.
    why: &'static str,
    /// What it enables.
    pub(super) enables: &'static str,
}

impl Words {
    /// The whole text: why, which records, how they travel, and what she can do.
    pub(super) fn body(&self) -> String {
        let (records, choice, rights) = if self.language == "hi" {
            (RECORDS_HI, CHOICE_HI, RIGHTS_HI)
        } else {
            (RECORDS_EN, CHOICE_EN, RIGHTS_EN)
        };
        [self.why, records, choice, rights].join("\n\n")
    }
}

const RECORDS_EN: &str = "Which records: only the kinds, the dates and the hospitals shown in the request. They can be \
prescriptions, diagnostic reports, outpatient notes, discharge summaries, immunisation records, other health \
documents, wellness records and invoices. With them go your ABHA address and the reference under which the hospital \
keeps the record. The records travel encrypted from the hospital to whoever asks. The consent manager cannot read them.";

const RECORDS_HI: &str = "कौन से रिकॉर्ड: केवल वही प्रकार, वही तारीखें और वही अस्पताल जो अनुरोध में दिखाए गए हैं। इनमें दवा के पर्चे, \
जाँच की रिपोर्ट, ओपीडी के नोट, अस्पताल से छुट्टी के सारांश, टीकाकरण के रिकॉर्ड, अन्य स्वास्थ्य दस्तावेज़, आरोग्य के रिकॉर्ड और बिल हो सकते हैं। \
इनके साथ आपका आभा पता और वह संदर्भ संख्या भी जाती है जिससे अस्पताल रिकॉर्ड रखता है। रिकॉर्ड अस्पताल से माँगने वाले तक कूटबद्ध होकर जाते हैं। \
सहमति प्रबंधक उन्हें नहीं पढ़ सकता।";

const CHOICE_EN: &str = "Your choice: you may grant all of it, only a part, or nothing, and doing nothing is not \
consent. The request shows until when the records may be kept; by then they must be erased. If you deny, you may still \
be treated and may give information yourself.";

const CHOICE_HI: &str = "आपकी इच्छा: आप पूरी, केवल कुछ हिस्से की, या कोई भी अनुमति न देने का निर्णय ले सकते हैं; कुछ न करना सहमति नहीं है। अनुरोध में लिखा है कि रिकॉर्ड \
कब तक रखे जा सकते हैं; उस समय तक उन्हें मिटाना ज़रूरी है। मना करने पर भी आपका इलाज हो सकता है और आप जानकारी स्वयं दे सकते हैं।";

const RIGHTS_EN: &str = "At any time you can take your consent back, as easily as you gave it: from then on nothing \
more is shared under it. What was lawfully done before stays lawful. You can also ask who received your records, have \
them corrected or erased, name somebody to act for you, and complain, first to whoever asked and then to the Data \
Protection Board of India. The links stand below.";

const RIGHTS_HI: &str = "आप किसी भी समय अपनी सहमति उतनी ही आसानी से वापस ले सकते हैं जितनी आसानी से दी थी: उसके बाद इसके आधार पर कुछ भी साझा नहीं होगा। पहले जो विधिसम्मत \
हुआ वह विधिसम्मत रहेगा। आप यह भी पूछ सकते हैं कि आपके रिकॉर्ड किसे मिले, उन्हें सुधरवा या मिटवा सकते हैं, अपनी ओर से काम करने के लिए किसी को नामित कर सकते हैं, \
और शिकायत कर सकते हैं: पहले माँगने वाले से, फिर भारतीय डेटा संरक्षण बोर्ड से। लिंक नीचे दिए गए हैं।";

/// English, then Hindi.
pub(super) const fn of(purpose: PurposeCode) -> [Words; 2] {
    match purpose {
        PurposeCode::Caremgt => pair(
            "Sharing your health records for your care",
            "Why: a doctor, hospital or clinic that treats you asks to see your earlier health records, to care for you.",
            "A doctor who knows your history: a safer diagnosis, no medicine that harms you, no test done twice.",
            "आपके इलाज के लिए आपके स्वास्थ्य रिकॉर्ड साझा करना",
            "क्यों: आपका इलाज करने वाले डॉक्टर, अस्पताल या क्लिनिक आपकी देखभाल के लिए आपके पहले के स्वास्थ्य रिकॉर्ड देखना चाहते हैं।",
            "ऐसे डॉक्टर से इलाज जो आपका पिछला हाल जानते हैं: अधिक सुरक्षित निदान, हानिकारक दवा से बचाव, और एक ही जाँच दोबारा नहीं।",
        ),
        PurposeCode::Btg => pair(
            "Emergency access to your health records",
            "Why: in a medical emergency, when you could not be asked, a registered doctor opened your health records to treat you. You are told of it at once.",
            "Emergency treatment by a doctor who knows your allergies, illnesses and medicines.",
            "आपात स्थिति में आपके स्वास्थ्य रिकॉर्ड देखना",
            "क्यों: चिकित्सा आपात स्थिति में, जब आपसे पूछा नहीं जा सका, एक पंजीकृत डॉक्टर ने इलाज के लिए आपके स्वास्थ्य रिकॉर्ड खोले। आपको इसकी सूचना तुरंत दी जाती है।",
            "ऐसे डॉक्टर से आपातकालीन इलाज जो आपकी एलर्जी, बीमारियाँ और दवाएँ जानते हैं।",
        ),
        PurposeCode::Pubhlth => pair(
            "Sharing your health records for public health",
            "Why: a public health authority asks for your health records to find, follow or prevent disease among people.",
            "Public health work: vaccination, watching for outbreaks, planning of services where you live.",
            "जन स्वास्थ्य के लिए आपके स्वास्थ्य रिकॉर्ड साझा करना",
            "क्यों: एक जन स्वास्थ्य प्राधिकरण लोगों में बीमारी का पता लगाने, उस पर नज़र रखने या उसे रोकने के लिए आपके स्वास्थ्य रिकॉर्ड माँग रहा है।",
            "जन स्वास्थ्य के काम: टीकाकरण, बीमारी फैलने पर निगरानी, और आपके क्षेत्र में सेवाओं की योजना।",
        ),
        PurposeCode::Hpaymt => pair(
            "Sharing your health records to pay for your care",
            "Why: an insurer or a scheme asks for your health records to approve or settle the payment of your treatment.",
            "The payment of your treatment: approval beforehand, cashless care, a claim that is settled.",
            "इलाज के भुगतान के लिए आपके स्वास्थ्य रिकॉर्ड साझा करना",
            "क्यों: एक बीमा कंपनी या योजना आपके इलाज का भुगतान स्वीकृत करने या निपटाने के लिए आपके स्वास्थ्य रिकॉर्ड माँग रही है।",
            "आपके इलाज का भुगतान: पहले से स्वीकृति, नकद रहित इलाज, और दावे का निपटान।",
        ),
        PurposeCode::Dsrch => pair(
            "Sharing your health records for research",
            "Why: an approved study of a disease asks to use your health records. It knows you under a pseudonym and not by name or number.",
            "Research into the disease that the request names; the results may help others and not yourself.",
            "शोध के लिए आपके स्वास्थ्य रिकॉर्ड साझा करना",
            "क्यों: किसी बीमारी पर एक स्वीकृत अध्ययन आपके स्वास्थ्य रिकॉर्ड का उपयोग करना चाहता है। अध्ययन आपको एक छद्म नाम से जानता है, आपके नाम या संख्या से नहीं।",
            "अनुरोध में बताई गई बीमारी पर शोध; इसके परिणामों से दूसरों को लाभ हो सकता है, हो सकता है आपको न हो।",
        ),
        PurposeCode::Patrqt => pair(
            "Bringing your own health records to you",
            "Why: you yourself asked your app or locker to collect your health records for you.",
            "Your health records in one place, under your own eyes, to keep or to show to whom you choose.",
            "आपके अपने स्वास्थ्य रिकॉर्ड आप तक लाना",
            "क्यों: आपने स्वयं अपने ऐप या लॉकर से कहा है कि वह आपके स्वास्थ्य रिकॉर्ड आपके लिए इकट्ठा करे।",
            "आपके स्वास्थ्य रिकॉर्ड एक ही जगह, आपकी अपनी नज़र में, रखने के लिए या जिसे आप चाहें उसे दिखाने के लिए।",
        ),
    }
}

const fn pair(
    title: &'static str,
    why: &'static str,
    enables: &'static str,
    title_hi: &'static str,
    why_hi: &'static str,
    enables_hi: &'static str,
) -> [Words; 2] {
    [
        Words {
            language: "en",
            title,
            why,
            enables,
        },
        Words {
            language: "hi",
            title: title_hi,
            why: why_hi,
            enables: enables_hi,
        },
    ]
}
