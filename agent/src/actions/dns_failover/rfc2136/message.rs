//! What is asked of the name server, and what its answers mean.

use hickory_proto::{
    op::{Message, Query, ResponseCode, update_message},
    rr::{
        DNSClass, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};
use quell_model::action::{DnsData, DnsUpdate};

use crate::{actions::dns_failover::Active, dns::name};

/// What stands there?
pub(super) fn question(update: &DnsUpdate) -> Result<Message, String> {
    let mut message = Message::query();
    // The primary is asked what it has itself, and nobody else.
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name(&update.owner())?, kind(&update.to)));
    Ok(message)
}

/// One transaction (RFC 2136, section 3): exactly the old record is there, else nothing is done; it goes, and the new one
/// comes. The old one being all that there is under this name and type, to delete it is to delete them all.
pub(super) fn update(update: &DnsUpdate) -> Result<Message, String> {
    let record =
        |data: &DnsData| Ok::<_, String>(Record::from_rdata(name(&update.owner())?, update.ttl, data_of(data)?));
    let (old, new) = (record(&update.from)?, record(&update.to)?);
    Ok(update_message::compare_and_swap(old.into(), new.into(), name(&update.zone)?, false))
}

/// Who is active, by the answer to the question.
pub(super) fn standing(update: &DnsUpdate, answer: &Message) -> Result<Active, String> {
    let (server, owner, wanted) = (update.server, name(&update.owner())?, kind(&update.to));
    let record = format!("{} {}", update.owner(), update.to.kind());
    let answered = answer.metadata.response_code;
    if !matches!(answered, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(format!("{server} does not say what {record} is ({})", code(answered)));
    }
    if !answer.metadata.authoritative {
        return Err(format!("{server} does not speak for the zone {}: it is not its primary", update.zone));
    }
    let of_record = |one: &&Record| one.name == owner && one.record_type() == wanted && one.dns_class == DNSClass::IN;
    let found: Vec<&RData> = answer.answers.iter().filter(of_record).map(|record| &record.data).collect();
    let is = |data: &DnsData| Ok::<_, String>(found.as_slice() == [&data_of(data)?]);
    if is(&update.from)? {
        return Ok(Active::From);
    }
    if is(&update.to)? {
        return Ok(Active::To);
    }
    let mut found: Vec<String> = found.iter().map(ToString::to_string).collect();
    found.sort_unstable();
    Ok(Active::Other(match found.as_slice() {
        [] => format!("{server} has no {record}"),
        _ => format!("{record} is {} at {server}", found.join(", ")),
    }))
}

/// A response code as people write it.
pub(super) fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::Unknown(number) => format!("RCODE{number}"),
        known => format!("{known:?}").to_uppercase(),
    }
}

fn kind(data: &DnsData) -> RecordType {
    match data {
        DnsData::A(_) => RecordType::A,
        DnsData::Aaaa(_) => RecordType::AAAA,
        DnsData::Cname(_) => RecordType::CNAME,
    }
}

fn data_of(data: &DnsData) -> Result<RData, String> {
    Ok(match data {
        DnsData::A(address) => RData::A(A(*address)),
        DnsData::Aaaa(address) => RData::AAAA(AAAA(*address)),
        DnsData::Cname(alias) => RData::CNAME(CNAME(name(alias)?)),
    })
}
