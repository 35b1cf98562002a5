//! Pages: a list is cut so that each part fits into one message, however long the list is.
//!
//! A token names the first object of the next page, and its place for the case that this object has gone meanwhile. So
//! what comes or goes between two pages shifts none of the others.

use prost::Message;
use quell_link::MESSAGE_BYTES;
use quell_wire::v1::{
    AlertView, GetResponse, HoldView, HostView, IncidentView, ManifestView, OperatorView, PlanView, PolicyView,
    TokenView, WindowView,
};
use tonic::Status;

/// Most bytes of a page: half of what a message may have, so that the last object has room.
const PAGE_BYTES: usize = MESSAGE_BYTES / 2;
/// Bytes around an object in its list, at most.
const AROUND: usize = 8;

/// The page of a whole list that a request asks for.
pub(super) fn cut(mut whole: GetResponse, size: u32, token: &str) -> Result<GetResponse, Status> {
    let from = From::read(token)?;
    let place = skip(&mut whole, &from);
    Ok(next(&mut whole, place, size))
}

/// All pages of a whole list; at least one.
pub(super) fn all(mut whole: GetResponse, size: u32) -> Vec<GetResponse> {
    let mut pages = Vec::new();
    let mut place = 0;
    loop {
        let page = next(&mut whole, place, size);
        place += length(&page);
        let is_last = page.next_page_token.is_empty();
        pages.push(page);
        if is_last {
            return pages;
        }
    }
}

/// Where a page begins.
struct From<'a> {
    place: usize,
    name: &'a str,
}

impl<'a> From<'a> {
    fn read(token: &'a str) -> Result<Self, Status> {
        if token.is_empty() {
            return Ok(Self { place: 0, name: "" });
        }
        let parts = token.split_once(':').and_then(|(place, name)| Some((place.parse().ok()?, name)));
        let (place, name) = parts.ok_or_else(|| {
            Status::invalid_argument("the page_token is not a next_page_token of an answer: ask for the first page")
        })?;
        Ok(Self { place, name })
    }
}

/// Takes the next page off the front of what is left of a list; `place` of it have gone before.
fn next(rest: &mut GetResponse, place: usize, size: u32) -> GetResponse {
    let most = if size == 0 { usize::MAX } else { usize::try_from(size).unwrap_or(usize::MAX) };
    let mut page = take(rest, most);
    if let Some(name) = first(rest) {
        page.next_page_token = format!("{}:{name}", place + length(&page));
    }
    page
}

/// What an object is called inside its list.
trait Named: Message {
    fn name(&self) -> String;
}

macro_rules! lists {
    ($($list:ident: $view:ty, $object:ident => $name:expr;)*) => {
        $(impl Named for $view {
            fn name(&self) -> String {
                let $object = self;
                $name
            }
        })*

        /// Drops what comes before a page, and says how much that was.
        fn skip(whole: &mut GetResponse, from: &From<'_>) -> usize {
            0 $(+ skip_in(&mut whole.$list, from))*
        }

        /// Takes as much off the front as a page holds.
        fn take(rest: &mut GetResponse, most: usize) -> GetResponse {
            GetResponse { $($list: take_from(&mut rest.$list, most),)* next_page_token: String::new() }
        }

        /// The name of the first object that is left.
        fn first(rest: &GetResponse) -> Option<String> {
            None $(.or_else(|| rest.$list.first().map(Named::name)))*
        }

        fn length(page: &GetResponse) -> usize {
            0 $(+ page.$list.len())*
        }
    };
}

lists! {
    hosts: HostView, host => host.name.clone();
    policies: PolicyView, policy => format!("{}/{}", policy.namespace, policy.name);
    incidents: IncidentView, incident => incident.id.clone();
    plans: PlanView, plan => plan.id.clone();
    holds: HoldView, hold => format!("{} {}", hold.guard, hold.what);
    windows: WindowView, window => window.id.clone();
    alerts: AlertView, alert => format!("{} {}", alert.policy, alert.target);
    tokens: TokenView, token => token.id.clone();
    operators: OperatorView, operator => operator.name.clone();
    manifests: ManifestView, manifest => format!("{}/{}/{}", manifest.kind, manifest.namespace, manifest.name);
}

fn skip_in<T: Named>(list: &mut Vec<T>, from: &From<'_>) -> usize {
    if from.name.is_empty() {
        return 0;
    }
    let named = list.iter().position(|object| object.name() == from.name);
    let place = named.unwrap_or(from.place).min(list.len());
    list.drain(..place);
    place
}

fn take_from<T: Named>(list: &mut Vec<T>, most: usize) -> Vec<T> {
    let mut bytes = 0;
    let fit = list.iter().take(most).take_while(|object| {
        bytes += object.encoded_len() + AROUND;
        bytes <= PAGE_BYTES
    });
    // One that is larger than a page is a page of its own: nothing is left out.
    let count = fit.count().max(1).min(list.len());
    list.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incidents(count: usize, summary: usize) -> GetResponse {
        let incident = |number| IncidentView {
            id: format!("inc-{number}"),
            summary: "x".repeat(summary),
            ..IncidentView::default()
        };
        GetResponse { incidents: (0..count).map(incident).collect(), ..GetResponse::default() }
    }

    fn ids(pages: &[GetResponse]) -> Vec<String> {
        pages.iter().flat_map(|page| page.incidents.iter().map(|incident| incident.id.clone())).collect()
    }

    /// Asks for page after page, as a client does.
    fn asked(whole: &GetResponse, size: u32) -> Vec<GetResponse> {
        let mut pages = vec![cut(whole.clone(), size, "").unwrap()];
        while let token = &pages[pages.len() - 1].next_page_token
            && !token.is_empty()
        {
            let page = cut(whole.clone(), size, token).unwrap();
            pages.push(page);
        }
        pages
    }

    #[test]
    fn thousands_of_incidents_come_in_messages_that_fit() {
        let whole = incidents(5_000, 2_000);
        assert!(whole.encoded_len() > 2 * MESSAGE_BYTES);
        let pages = asked(&whole, 0);
        assert!(pages.len() > 2 && pages.iter().all(|page| page.encoded_len() < MESSAGE_BYTES));
        assert_eq!(ids(&pages), ids(std::slice::from_ref(&whole)));
        assert_eq!(all(whole, 0), pages, "a watch gets the same pages");
    }

    #[test]
    fn a_page_has_no_more_than_was_asked_for() {
        let whole = incidents(7, 1);
        let pages = asked(&whole, 3);
        assert_eq!(pages.iter().map(length).collect::<Vec<_>>(), [3, 3, 1]);
        assert_eq!(ids(&pages), ids(&[whole]));
        assert_eq!(asked(&GetResponse::default(), 3), [GetResponse::default()]);
        assert_eq!(asked(&incidents(3, 1), 3).len(), 1, "no empty page at the end");
    }

    #[test]
    fn what_comes_and_goes_between_pages_shifts_nothing() {
        let whole = incidents(6, 1);
        let token = cut(whole.clone(), 3, "").unwrap().next_page_token;
        let mut more = whole.clone();
        more.incidents.insert(0, IncidentView { id: "inc-9".to_owned(), ..IncidentView::default() });
        assert_eq!(ids(&[cut(more, 3, &token).unwrap()]), ["inc-3", "inc-4", "inc-5"]);
        let mut fewer = whole;
        fewer.incidents.remove(3);
        assert_eq!(
            ids(&[cut(fewer.clone(), 3, &token).unwrap()]),
            ["inc-4", "inc-5"],
            "its own place, when it is gone"
        );
        fewer.incidents.clear();
        assert_eq!(cut(fewer, 3, &token).unwrap(), GetResponse::default());
    }

    #[test]
    fn one_that_is_larger_than_a_page_comes_alone_and_foreign_tokens_are_refused() {
        let pages = asked(&incidents(3, PAGE_BYTES + 1), 0);
        assert_eq!(pages.iter().map(length).collect::<Vec<_>>(), [1, 1, 1]);
        for wrong in ["x", "inc-3", ":", "-1:inc-3"] {
            assert!(cut(incidents(3, 1), 0, wrong).is_err(), "{wrong}");
        }
        assert!(cut(incidents(3, 1), 0, "99999999:inc-77").unwrap().incidents.is_empty());
    }
}
