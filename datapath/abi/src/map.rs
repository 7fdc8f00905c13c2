//! What kind a map is: who writes it decides how it may grow.

/// Who writes a map, and so how it grows when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// An inner map of another: grown by building a larger one and swapping it in.
    Inner,
    /// Written by the agent alone: an entry takes its memory when it is written, so the map is made as large as it may ever
    /// be, and what limits it is configuration.
    Agent,
    /// Written by the kernel's programs: sized when it is made, overload is counted.
    Kernel,
}

/// What is fixed about a map.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Its name in the object and, with the version, under the pin directory.
    pub name: &'static str,
    /// Version of its key and value layout; a changed layout is another map.
    pub version: u32,
    /// Who writes it.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries it holds at most; a map that the kernel writes is made for as many as are configured.
    pub capacity: u32,
}

/// Declares a [`MapSpec`] from its key and value types.
macro_rules! map_spec {
    ($(#[$meta:meta])* $konst:ident = $name:literal v $version:literal, $kind:ident, $key:ty => $value:ty, $capacity:expr) => {
        $(#[$meta])*
        pub const $konst: $crate::map::MapSpec = $crate::map::MapSpec {
            name: $name,
            version: $version,
            kind: $crate::map::MapKind::$kind,
            key_size: $crate::layout::size(::core::mem::size_of::<$key>()),
            value_size: $crate::layout::size(::core::mem::size_of::<$value>()),
            capacity: $capacity,
        };
    };
}
pub(crate) use map_spec;

/// Every map of the datapath.
pub const ALL: [MapSpec; 11] = [
    crate::conntrack::FLOWS4,
    crate::conntrack::PENDING4,
    crate::endpoint::ENDPOINTS,
    crate::epoch::NODE_STATE,
    crate::event::EVENTS,
    crate::event::MUTED4,
    crate::fragment::FRAGMENTS4,
    crate::ipcache::ADDRESSES4,
    crate::ipcache::PREFIXES4,
    crate::metrics::METRICS,
    crate::policy::CLASSES,
];
