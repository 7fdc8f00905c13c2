//! [`Events`] on the pinned ring buffer, and what a record must be to be believed.

use crate::{
    kernel::{Events, KernelError, Malformed},
    maps::pin_name,
};
use aya::maps::{Map, MapData, RingBuf};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};
use tokio::io::{Interest, unix::AsyncFd};
use weft_abi::event::{EVENT_ALLOWED, EVENT_DROP, EVENT_VERSION, EVENTS, Event};

/// The ring buffer of this node. How far it was read is kept in the kernel, so that who opens it next goes on there.
pub struct RealEvents {
    ring: RingBuf<MapData>,
}

impl RealEvents {
    /// Opens the ring pinned under `bpffs`.
    pub fn open(bpffs: &Path) -> Result<Self, KernelError> {
        let pin = bpffs.join("maps").join(pin_name(&EVENTS));
        let failed = |error: &dyn std::fmt::Display| {
            KernelError::Unusable(format!("read events of {}: {error}", pin.display()))
        };
        let map =
            MapData::from_pin(&pin).and_then(Map::from_map_data).map_err(|error| failed(&error))?;
        Ok(Self { ring: RingBuf::try_from(map).map_err(|error| failed(&error))? })
    }
}

impl Events for RealEvents {
    fn readiness(&self) -> Result<Readiness, KernelError> {
        Readiness::of(self.ring.as_fd())
    }

    fn drain(&mut self, most: usize, each: &mut dyn FnMut(Result<Event, Malformed>)) -> usize {
        for drained in 0..most {
            // Read out before the item is dropped, which gives its place back to the kernel.
            let Some(record) = self.ring.next().map(|item| parse(&item)) else { return drained };
            each(record);
        }
        most
    }
}

/// Knows when records come; costs nothing while none do.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// Of what becomes readable then.
    pub(crate) fn of(ring: BorrowedFd<'_>) -> Result<Self, KernelError> {
        let failed = |source| KernelError::Io { action: "wait for events".to_owned(), source };
        let fd = ring.try_clone_to_owned().map_err(failed)?;
        #[allow(unsafe_code, reason = "a descriptor registered with the runtime's poller")]
        // SAFETY: the descriptor is owned by the registration, so it is open as long as that lives.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(registered.map_err(|error| failed(error.into()))?))
    }

    /// Calls `take` whenever records came, for ever. It has to take all: the kernel wakes nobody who left some.
    pub async fn whenever(self, mut take: impl AsyncFnMut()) -> io::Error {
        loop {
            match self.0.readable().await {
                Ok(mut readable) => {
                    take().await;
                    readable.clear_ready();
                }
                Err(error) => return error,
            }
        }
    }
}

/// The event in a record: nothing that another version, or a mistake, wrote.
pub fn parse(record: &[u8]) -> Result<Event, Malformed> {
    let length = record.len();
    if let Some(&other) = record.first().filter(|version| **version != EVENT_VERSION) {
        return Err(Malformed::Version(other));
    }
    let event = Event::from_bytes(record).ok_or(Malformed::Length(length))?;
    if usize::from(event.length) != length {
        return Err(Malformed::Length(usize::from(event.length)));
    }
    match event.kind {
        EVENT_DROP | EVENT_ALLOWED => Ok(event),
        other => Err(Malformed::Kind(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = size_of::<Event>();

    fn record(version: u8, kind: u8, length: u16, size: usize) -> Vec<u8> {
        let mut bytes = vec![0xa5; size];
        let head = [version, kind].into_iter().chain(length.to_ne_bytes());
        bytes.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        bytes
    }

    #[test]
    fn records_are_believed_only_whole_and_of_this_version() {
        let size = u16::try_from(SIZE).unwrap();
        let good = parse(&record(EVENT_VERSION, EVENT_DROP, size, SIZE)).unwrap();
        assert_eq!((good.kind, good.epoch), (EVENT_DROP, u64::from_ne_bytes([0xa5; 8])));
        for (bytes, why) in [
            (
                record(EVENT_VERSION + 1, EVENT_DROP, size, SIZE),
                Malformed::Version(EVENT_VERSION + 1),
            ),
            (record(EVENT_VERSION, 99, size, SIZE), Malformed::Kind(99)),
            (record(EVENT_VERSION, EVENT_DROP, size - 1, SIZE), Malformed::Length(SIZE - 1)),
            (record(EVENT_VERSION, EVENT_DROP, size, SIZE - 1), Malformed::Length(SIZE - 1)),
            (record(EVENT_VERSION, EVENT_DROP, size, SIZE + 8), Malformed::Length(SIZE + 8)),
            (Vec::new(), Malformed::Length(0)),
        ] {
            assert_eq!(parse(&bytes), Err(why));
        }
    }

    proptest! {
        /// Bytes of any kind and length give an event that says what they say, or are refused.
        #[test]
        fn any_bytes_are_an_event_or_malformed(
            mut bytes in prop::collection::vec(any::<u8>(), 0..2 * SIZE),
            version in prop_oneof![Just(EVENT_VERSION), any::<u8>()],
            whole in any::<bool>(),
        ) {
            if whole {
                bytes.resize(SIZE, 0);
                bytes[2..4].copy_from_slice(&u16::try_from(SIZE).unwrap().to_ne_bytes());
            }
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            match parse(&bytes) {
                Ok(event) => {
                    prop_assert_eq!(bytes.len(), SIZE);
                    prop_assert_eq!((event.version, event.kind), (bytes[0], bytes[1]));
                    prop_assert_eq!(event.protocol, bytes[7]);
                    prop_assert_eq!(&event.epoch.to_ne_bytes()[..], &bytes[8..16]);
                    prop_assert_eq!(&event.spare[..], &bytes[96..]);
                }
                Err(Malformed::Version(other)) => prop_assert_eq!(Some(&other), bytes.first()),
                Err(Malformed::Kind(other)) => {
                    prop_assert!(other != EVENT_DROP && other != EVENT_ALLOWED);
                }
                Err(Malformed::Length(length)) => {
                    prop_assert!(bytes.len() != SIZE || length != SIZE);
                }
            }
        }
    }
}
