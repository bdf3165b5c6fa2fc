//! The health protocol of gRPC (`grpc.health.v1.Health/Check`): a request of one text and a reply of one number over HTTP/2. So small a part of gRPC and
//! of protobuf is written out here.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::http::{HeaderMap, Response};
use reqwest::{Body, header};
use rustls::ClientConfig;

use super::check::{Progress, Way, client, url};
use super::words::{self, Phase};
use crate::health::{Failure, Outcome};
use crate::policy::model::{GrpcCheck, HttpVersion};

/// The method.
const PATH: &str = "/grpc.health.v1.Health/Check";
/// Content type of requests and replies.
const GRPC: &str = "application/grpc";
/// A reply has seven octets; whoever sends more than this sends something else.
const MAX_REPLY: usize = 1024;
/// Octets before a message: whether it is compressed, and how long it is.
const PREFIX: usize = 5;

/// Status codes of gRPC, in order.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What a service may say of itself, in order; `SERVING` passes.
const SERVING_STATUS: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks how the service is.
pub(super) async fn grpc(check: &GrpcCheck, way: Way, tls: Result<ClientConfig, String>, timeout: Duration, progress: &Arc<Progress>) -> Outcome {
    let scheme = if check.tls.is_some() { "https" } else { "http" };
    let url = url(scheme, &check.host, PATH, way.to).ok_or_else(|| Failure::Internal(format!("\"{}\" makes no URL", check.host)))?;
    let tls = tls.map_err(Failure::Internal)?;
    let client = client(tls, HttpVersion::Http2, way, progress).map_err(|error| Failure::Internal(error.to_string()))?;
    let request = client.post(url).header(header::CONTENT_TYPE, GRPC).header(header::TE, "trailers");
    let request = request.header("grpc-timeout", format!("{}m", timeout.as_millis())).body(request_of(&check.service));
    let response = request.send().await.map_err(|error| words::failure(&error, progress.phase()))?;
    progress.enter(Phase::Body);
    let status = response.status().as_u16();
    if status != 200 {
        return Err(Failure::Status(status));
    }
    let (head, mut body) = Response::<Body>::from(response).into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with(GRPC) {
        return Err(Failure::Protocol("the peer does not speak gRPC on this port".into()));
    }
    let (mut message, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| words::failure(&error, Phase::Body))?;
        match frame.into_data() {
            Ok(data) if message.len() + data.len() > MAX_REPLY => {
                return Err(Failure::Protocol("the reply is too long for one of the health service".into()));
            }
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    judge(&head.headers, trailers.as_ref(), &message)
}

/// The request for a service, with its prefix.
fn request_of(service: &str) -> Vec<u8> {
    // Field 1, a text; nothing where it is empty. A name has at most 255 octets, so its length takes two at most.
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let len = service.len();
        if len < 0x80 {
            message.push(len as u8);
        } else {
            message.extend([(len & 0x7f) as u8 | 0x80, (len >> 7) as u8]);
        }
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

/// A reply without a body has its status in the headers, any other in the trailers.
fn judge(headers: &HeaderMap, trailers: Option<&HeaderMap>, framed: &[u8]) -> Outcome {
    let of = |name: &str| trailers.and_then(|trailers| trailers.get(name)).or_else(|| headers.get(name)).and_then(|value| value.to_str().ok());
    match of("grpc-status").map(str::parse::<usize>) {
        Some(Ok(0)) => {}
        Some(Ok(code)) => {
            let name = CODES.get(code).copied().unwrap_or("unknown code");
            let said = of("grpc-message").filter(|said| !said.is_empty()).map_or(String::new(), |said| format!(": {}", words::plain(&decoded(said))));
            return Err(Failure::Answer(format!("gRPC status {code} {name}{said}")));
        }
        _ => return Err(Failure::Protocol("the reply has no gRPC status".into())),
    }
    let (prefix, message) = framed.split_at_checked(PREFIX).ok_or_else(|| Failure::Protocol("the reply holds no message".into()))?;
    if prefix[0] != 0 || prefix[1..] != (message.len() as u32).to_be_bytes() {
        return Err(Failure::Protocol("the reply is no single message without compression".into()));
    }
    let status = status_of(message).ok_or_else(|| Failure::Protocol("the reply is no message of the health service".into()))?;
    match usize::try_from(status).ok().and_then(|status| SERVING_STATUS.get(status)) {
        Some(&"SERVING") => Ok(()),
        Some(word) => Err(Failure::Answer(format!("the service is {word}, expected SERVING"))),
        None => Err(Failure::Answer(format!("the service's state is {status}, expected SERVING"))),
    }
}

/// The words of `grpc-message`, whose octets outside of visible ASCII stand as `%XX` (gRPC over HTTP/2, Responses). What is no such thing stands for itself.
fn decoded(said: &str) -> String {
    let mut octets = Vec::with_capacity(said.len());
    let mut rest = said.as_bytes();
    while let [first, behind @ ..] = rest {
        let coded = behind.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        let octet = coded.filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit())).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        octets.push(octet.unwrap_or(*first));
        rest = if octet.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Field 1 of a message, a number; 0 where it is not there. Fields that are not known are passed over.
fn status_of(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(len..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// A number of seven bits an octet, the lowest first.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let octet = *message.get(at)?;
        value |= u64::from(octet & 0x7f).checked_shl(7 * at as u32)?;
        if octet < 0x80 {
            *message = &message[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_framed() {
        let check = |service: &str, expected: &[u8]| assert_eq!(request_of(service), expected, "{service}");
        check("", &[0, 0, 0, 0, 0]);
        check("a.B", &[0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = request_of(&"x".repeat(200));
        assert_eq!((long.len(), &long[..8]), (208, &[0, 0, 0, 0, 203, 0x0a, 0xc8, 1][..]));
    }

    #[test]
    fn replies_are_read_and_rubbish_is_none() {
        let check = |message: &[u8], expected: Option<u64>| assert_eq!(status_of(message), expected, "{message:?}");
        check(&[], Some(0));
        check(&[8, 1], Some(1));
        check(&[8, 2, 8, 1], Some(1));
        // Others before and after: a text, four octets, eight, a number.
        check(&[0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 8, 1, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x28, 0x80, 1], Some(1));
        for rubbish in [&[8][..], &[8, 0x80], &[0x12, 200, 1], &[0x0b], &[0xff; 12], &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]]
        {
            check(rubbish, None);
        }
    }

    #[test]
    fn what_the_peer_says_has_its_words() {
        let map = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))).collect()
        };
        let ok = map(&[("grpc-status", "0")]);
        let check = |headers: &HeaderMap, trailers: Option<&HeaderMap>, framed: &[u8], words: &str| {
            assert_eq!(judge(headers, trailers, framed).map_or_else(|failure| failure.to_string(), |()| "ok".into()), words, "{framed:?}");
        };
        let none = HeaderMap::new();
        check(&none, Some(&ok), &[0, 0, 0, 0, 2, 8, 1], "ok");
        check(&none, Some(&ok), &[0, 0, 0, 0, 2, 8, 2], "answer: the service is NOT_SERVING, expected SERVING");
        check(&none, Some(&ok), &[0, 0, 0, 0, 0], "answer: the service is UNKNOWN, expected SERVING");
        check(&none, Some(&ok), &[0, 0, 0, 0, 2, 8, 9], "answer: the service's state is 9, expected SERVING");
        check(&none, Some(&ok), &[], "protocol: the reply holds no message");
        check(&none, Some(&ok), &[1, 0, 0, 0, 2, 8, 1], "protocol: the reply is no single message without compression");
        check(&none, Some(&ok), &[0, 0, 0, 0, 1, 0x0b], "protocol: the reply is no message of the health service");
        check(&none, None, &[0, 0, 0, 0, 2, 8, 1], "protocol: the reply has no gRPC status");
        check(&map(&[("grpc-status", "12"), ("grpc-message", "No health")]), None, &[], "answer: gRPC status 12 UNIMPLEMENTED: no health");
        let said = map(&[("grpc-status", "5"), ("grpc-message", "kein Dienst %C3%BCber 50%, %zz%2")]);
        check(&said, None, &[], "answer: gRPC status 5 NOT_FOUND: kein Dienst über 50%, %zz%2");
        check(&map(&[("grpc-status", "99")]), None, &[], "answer: gRPC status 99 unknown code");
    }
}
