//! A bpffs of the test's own, programs loaded over its maps, entries written field by field, packets built.
#![allow(dead_code, reason = "each test uses its part")]

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    programs::{SchedClassifier, TestRunAttrs},
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};
use weft_abi::map::{ALL, MapSpec};
use weft_datapath::{
    RealKernel,
    kernel::{Maps, RawEntry},
    maps::pin_name,
    objects, programs,
};

/// The interface that test runs see: the loopback device's.
pub(crate) const IFINDEX: u32 = 1;

/// Whether the test can run. Says so when not, where libtest captures nothing: `print!` alone is captured.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("main");
    assert!(test == "main" || test.contains("root_"), "{test} needs root: name it root_{test}");
    if !root {
        let _ = writeln!(std::io::stderr(), "skipped, for it needs root: {test}");
    }
    root
}

/// A bpffs, mounted for one test.
pub(crate) struct Bpffs(PathBuf);

impl Bpffs {
    pub(crate) fn mount() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-datapath-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let done = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path).status().unwrap();
        assert!(done.success());
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The programs over the maps of a bpffs.
pub(crate) struct Datapath {
    pub(crate) maps: std::sync::Arc<weft_datapath::maps::RealMaps>,
    pod: Ebpf,
    net: Ebpf,
    bpffs: Bpffs,
}

/// A program of the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    FromPod,
    ToPod,
    FromNet,
}

/// What a program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// The action: 0 on, 2 dropped, 7 redirected.
    pub(crate) action: u32,
    /// The packet afterwards.
    pub(crate) packet: Vec<u8>,
}

pub(crate) const OK: u32 = 0;
pub(crate) const SHOT: u32 = 2;
pub(crate) const REDIRECT: u32 = 7;

impl Datapath {
    pub(crate) fn load() -> Self {
        Self::load_with(&[])
    }

    /// With some maps of another size.
    pub(crate) fn load_with(sizes: &[(&MapSpec, u32)]) -> Self {
        let bpffs = Bpffs::mount();
        let folder = bpffs.path().join("maps");
        std::fs::create_dir_all(&folder).unwrap();
        let mut loader = EbpfLoader::new();
        for spec in &ALL {
            loader.map_pin_path(spec.name, folder.join(pin_name(spec)));
        }
        for (spec, size) in sizes {
            loader.map_max_entries(spec.name, *size);
        }
        let mut pod = loader.load(objects::POD).unwrap();
        let mut net = loader.load(objects::NET).unwrap();
        for name in ["from_pod", "to_pod"] {
            programs::load(classifier(&mut pod, name)).unwrap();
        }
        programs::load(classifier(&mut net, "from_net")).unwrap();
        let maps = RealKernel::open(bpffs.path(), IFINDEX).expect("open").maps;
        Self { maps, pod, net, bpffs }
    }

    /// Instructions that the kernel looked at to verify each program.
    pub(crate) fn verified(&mut self) -> [(&'static str, u32); 3] {
        [Program::FromPod, Program::ToPod, Program::FromNet].map(|program| {
            let (name, program) = self.program(program);
            (name, program.info().unwrap().verified_instruction_count().unwrap())
        })
    }

    fn program(&mut self, program: Program) -> (&'static str, &mut SchedClassifier) {
        let (name, object) = match program {
            Program::FromPod => ("from_pod", &mut self.pod),
            Program::ToPod => ("to_pod", &mut self.pod),
            Program::FromNet => ("from_net", &mut self.net),
        };
        (name, classifier(object, name))
    }

    pub(crate) fn run(&mut self, program: Program, bytes: &[u8]) -> Ran {
        let (_, program) = self.program(program);
        let mut packet = vec![0; bytes.len()];
        let options = TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut packet),
            attrs: TestRunAttrs::new(),
            ..Default::default()
        };
        let action = program.test_run(options).expect("test run").return_value;
        Ran { action, packet }
    }

    /// Writes an entry that is zero but for these bytes.
    pub(crate) fn write(&self, spec: &MapSpec, key: Vec<u8>, fields: &[(usize, &[u8])]) {
        let mut value = vec![0; spec.value_size as usize];
        for (at, bytes) in fields {
            value[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        self.maps.update(spec, &[RawEntry { key, value }]).expect("write the world");
    }

    pub(crate) fn entries(&self, spec: &MapSpec) -> Vec<RawEntry> {
        self.maps.entries(spec).expect("read")
    }

    /// Packets counted under a number, over all CPUs and directions.
    pub(crate) fn counted(&self, number: u8) -> u64 {
        use aya::maps::{Map, MapData, PerCpuArray};
        use weft_abi::metrics::{Counter, DIRECTIONS, METRICS, metrics_index};
        let pin = self.bpffs.path().join("maps").join(pin_name(&METRICS));
        let map = Map::PerCpuArray(MapData::from_pin(pin).unwrap());
        let counters: PerCpuArray<_, Counter> = map.try_into().unwrap();
        (0..u8::try_from(DIRECTIONS).unwrap())
            .flat_map(|direction| {
                let values = counters.get(&metrics_index(number, direction), 0).unwrap();
                values.iter().map(|counter| counter.packets).collect::<Vec<_>>()
            })
            .sum()
    }

    /// Where its maps are pinned.
    pub(crate) fn bpffs(&self) -> &Path {
        self.bpffs.path()
    }

    /// The events since the last look: (kind, reason, direction) of each.
    pub(crate) fn events(&self) -> Vec<(u8, u8, u8)> {
        use aya::maps::{Map, MapData, RingBuf};
        use weft_abi::event::EVENTS;
        let pin = self.bpffs.path().join("maps").join(pin_name(&EVENTS));
        let mut ring: RingBuf<_> =
            Map::RingBuf(MapData::from_pin(pin).unwrap()).try_into().unwrap();
        let mut events = Vec::new();
        while let Some(event) = ring.next() {
            events.push((event[1], event[4], event[5]));
        }
        events
    }
}

fn classifier<'o>(object: &'o mut Ebpf, name: &str) -> &'o mut SchedClassifier {
    object.program_mut(name).unwrap().try_into().unwrap()
}

/// A packet to be built: Ethernet, IPv4 and the head of a transport.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) from: [u8; 4],
    pub(crate) to: [u8; 4],
    pub(crate) protocol: u8,
    pub(crate) ports: [u16; 2],
    /// TCP flags, ICMP type, or the type of SCTP's first chunk.
    pub(crate) flags: u8,
    pub(crate) ttl: u8,
}

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;
pub(crate) const FIN: u8 = 1;

pub(crate) fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8) -> Packet {
    Packet { from: from.0, to: to.0, protocol: 6, ports: [from.1, to.1], flags, ttl: 64 }
}

pub(crate) fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Packet {
    Packet { protocol: 17, ..tcp(from, to, 0) }
}

/// An echo: request (8) or reply (0).
pub(crate) fn echo(from: [u8; 4], to: [u8; 4], kind: u8, id: u16) -> Packet {
    Packet { from, to, protocol: 1, ports: [id, 0], flags: kind, ttl: 64 }
}

impl Packet {
    pub(crate) fn reply(self, flags: u8) -> Self {
        let [source, destination] = self.ports;
        let ports = if self.protocol == 1 { self.ports } else { [destination, source] };
        Self { from: self.to, to: self.from, ports, flags, ..self }
    }

    pub(crate) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14..24].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, self.ttl, self.protocol]);
        bytes[26..30].copy_from_slice(&self.from);
        bytes[30..34].copy_from_slice(&self.to);
        let sum = checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        let [first, second] = self.ports;
        if self.protocol == 1 {
            bytes[34] = self.flags;
            bytes[38..40].copy_from_slice(&first.to_be_bytes());
        } else {
            bytes[34..36].copy_from_slice(&first.to_be_bytes());
            bytes[36..38].copy_from_slice(&second.to_be_bytes());
            // Where TCP has its offset and flags, SCTP has its first chunk.
            (bytes[46], bytes[47]) =
                if self.protocol == 132 { (self.flags, 0) } else { (0x50, self.flags) };
        }
        bytes
    }
}

/// The Internet checksum (RFC 1071); zero over a header that has its own.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}
