//! A stand-in for a name server: one zone, one key, queries and updates over TCP by RFC 2136 and RFC 8945, and every way to
//! misbehave that a test wants. `tests/host/dns.sh` tries the real one.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hickory_proto::{
    op::{Message, OpCode, ResponseCode, UpdateMessage as _},
    rr::{
        DNSClass, Name, RData, Record, RecordType, TSigResponseContext, TSigner,
        rdata::tsig::{TsigAlgorithm, TsigError},
    },
};

/// The zone that it is the primary of.
pub(crate) const ZONE: &str = "exoticplant.plant";

/// The name of its key.
pub(crate) const KEY: &str = "failover";

/// The secret of its key.
const SECRET: &[u8] = b"no other test has a key like this";

/// What becomes of a request that is well signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It is answered.
    Honest,
    /// It is not taken, and nothing is answered.
    Silent,
    /// It is taken, and nothing is answered.
    TakesAndIsSilent,
    /// It is not taken, and answered with this.
    Says(ResponseCode),
    /// It is taken once somebody else was faster.
    SomebodyElseFirst,
    /// The answer is not signed.
    Unsigned,
    /// The answer is signed with another secret.
    Forged,
    /// The answer says that the secret is another one, which is never signed.
    BadSignature,
    /// The answer is the one to another request.
    OtherRequest,
    /// What comes is no message.
    Garbage,
    /// The clocks are too far apart.
    BadTime,
    /// It is not the zone's primary.
    NotAuthoritative,
}

struct Shared {
    moods: Mutex<(Mood, Mood)>,
    zone: Mutex<BTreeMap<(String, u16), Vec<RData>>>,
    /// One line for each update that was taken.
    updates: PathBuf,
}

/// The stand-in; its thread ends with the process.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl StandIn {
    /// Starts one; `updates` in the directory tells what it took.
    pub(crate) fn start(directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            moods: Mutex::new((Mood::Honest, Mood::Honest)),
            zone: Mutex::default(),
            updates: directory.join("updates"),
        });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                // Whoever ends a connection early has ended it.
                std::thread::spawn(move || served.serve(stream.unwrap()).unwrap_or_default());
            }
        });
        let stand_in = Self { address, shared };
        stand_in.set(&["192.0.2.53"]);
        stand_in
    }

    /// What it makes of queries and of updates.
    pub(crate) fn is(&self, on_query: Mood, on_update: Mood) {
        *self.shared.moods.lock().unwrap() = (on_query, on_update);
    }

    /// Puts these addresses under `www`, all that there are.
    pub(crate) fn set(&self, addresses: &[&str]) {
        self.shared.set(addresses);
    }

    /// The addresses under `www`.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let zone = self.shared.zone.lock().unwrap();
        zone.get(&www()).into_iter().flatten().map(ToString::to_string).collect()
    }

    /// The updates that it took: what had to stand there, what went and what came.
    pub(crate) fn updates(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.shared.updates).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What `agent.toml` needs to say; makes the file with the secret.
    pub(crate) fn lines(&self, directory: &Path) -> String {
        let file = directory.join("failover.secret");
        write_secret(&file, SECRET);
        format!(
            "[[dns]]\nserver = \"{}\"\nzone = \"{ZONE}\"\nrecord = \"www\"\nkey = \"{KEY}\"\nsecret_file = {:?}",
            self.address,
            file.display().to_string()
        )
    }
}

/// Writes a secret where only its owner can read it.
pub(crate) fn write_secret(file: &Path, secret: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, format!("{}\n", STANDARD.encode(secret))).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn www() -> (String, u16) {
    (format!("www.{ZONE}."), RecordType::A.into())
}

fn signer(secret: &[u8]) -> TSigner {
    TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, Name::from_ascii(KEY).unwrap(), 300).unwrap()
}

impl Shared {
    fn set(&self, addresses: &[&str]) {
        let records = addresses.iter().map(|address| RData::A(address.parse::<std::net::Ipv4Addr>().unwrap().into()));
        self.zone.lock().unwrap().insert(www(), records.collect());
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut request = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut request)?;
            let Some(answer) = self.answer(&request) else { return Ok(()) };
            stream.write_all(&[&u16::try_from(answer.len()).unwrap().to_be_bytes(), answer.as_slice()].concat())?;
        }
    }

    fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let request = Message::from_vec(bytes).unwrap();
        let (id, time) = (request.metadata.id, request.signature().map_or(0, |signature| signature.data.time));
        let mut answer = Message::response(id, request.metadata.op_code);
        answer.add_queries(request.queries.iter().cloned());
        let known = signer(SECRET);
        let Some(signature) = request.signature().cloned() else {
            answer.metadata.response_code = ResponseCode::Refused;
            return Some(answer.to_vec().unwrap());
        };
        if signature.name != *known.signer_name() || signature.data.algorithm != *known.algorithm() {
            answer.metadata.response_code = ResponseCode::NotAuth;
            return Some(sign(answer, TSigResponseContext::unknown_key(id, time, signature.name)));
        }
        if known.verify_message_byte(bytes, None, true).is_err() {
            answer.metadata.response_code = ResponseCode::NotAuth;
            return Some(sign(answer, TSigResponseContext::bad_signature(id, time, known)));
        }
        let is_update = request.metadata.op_code == OpCode::Update;
        let moods = *self.moods.lock().unwrap();
        let mood = if is_update { moods.1 } else { moods.0 };
        self.take(&request, &mut answer, mood);
        let signed = |signer, error| TSigResponseContext::new(id, time, signer, signature.data.mac.clone(), error);
        Some(match mood {
            Mood::Silent | Mood::TakesAndIsSilent => return None,
            Mood::Unsigned => answer.to_vec().unwrap(),
            Mood::Forged => sign(answer, signed(signer(b"another secret, of another server"), None)),
            Mood::BadSignature => sign(answer, TSigResponseContext::bad_signature(id, time, known)),
            Mood::OtherRequest => {
                answer.metadata.id = id.wrapping_add(1);
                sign(answer, signed(known, None))
            }
            Mood::Garbage => b"this is not DNS".to_vec(),
            Mood::BadTime => sign(answer, signed(known, Some(TsigError::BadTime))),
            _ => sign(answer, signed(known, None)),
        })
    }

    fn take(&self, request: &Message, answer: &mut Message, mood: Mood) {
        answer.metadata.authoritative = mood != Mood::NotAuthoritative;
        match mood {
            Mood::Silent => return,
            Mood::BadTime => answer.metadata.response_code = ResponseCode::NotAuth,
            Mood::Says(code) => answer.metadata.response_code = code,
            Mood::SomebodyElseFirst => self.set(&["192.0.2.99"]),
            _ => {}
        }
        if answer.metadata.response_code != ResponseCode::NoError {
            return;
        }
        if request.metadata.op_code == OpCode::Update {
            answer.metadata.response_code = self.update(request);
            return;
        }
        let query = &request.queries[0];
        let zone = self.zone.lock().unwrap();
        for data in zone.get(&(query.name().to_ascii(), query.query_type().into())).into_iter().flatten() {
            answer.add_answer(Record::from_rdata(query.name().clone(), 5, data.clone()));
        }
    }

    /// RFC 2136, sections 3.2 and 3.4, as far as one record goes.
    fn update(&self, request: &Message) -> ResponseCode {
        let mut zone = self.zone.lock().unwrap();
        let key = |record: &Record| (record.name.to_ascii(), u16::from(record.record_type()));
        let mut line = Vec::new();
        for required in request.prerequisites() {
            assert_eq!((required.dns_class, required.ttl), (DNSClass::IN, 0), "a value that has to stand there");
            if zone.get(&key(required)).is_none_or(|there| there.as_slice() != [required.data.clone()]) {
                return ResponseCode::NXRRSet;
            }
            line.push(format!("if {}", required.data));
        }
        for change in request.updates() {
            let there = zone.entry(key(change)).or_default();
            if change.dns_class == DNSClass::NONE {
                there.retain(|data| *data != change.data);
                line.push(format!("without {}", change.data));
            } else {
                there.push(change.data.clone());
                line.push(format!("with {} for {} s", change.data, change.ttl));
            }
        }
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.updates).unwrap();
        writeln!(file, "{}", line.join(" ")).unwrap();
        ResponseCode::NoError
    }
}

fn sign(mut answer: Message, context: TSigResponseContext) -> Vec<u8> {
    let signature = context.sign(&answer.to_vec().unwrap()).unwrap();
    answer.set_signature(signature);
    answer.to_vec().unwrap()
}
