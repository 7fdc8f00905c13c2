//! The macro that every type of the kernel boundary is written with.

/// A size as the kernel takes it; one that does not fit does not compile.
#[expect(clippy::cast_possible_truncation, reason = "asserted before")]
pub const fn size(of: usize) -> u32 {
    assert!(of <= u32::MAX as usize, "a size of this kernel boundary");
    of as u32
}

/// Declares a `#[repr(C)]` type with its size and the offset of every field, asserts both at compile
/// time together with the absence of hidden padding, and implements aya's plain-old-data marker.
///
/// Fields may be integers, byte arrays and other types of this crate: no enum, bool or option
/// crosses the boundary, since the other side may be of another version.
macro_rules! abi {
    (
        $(#[$meta:meta])*
        pub struct $name:ident [$size:literal] {
            $( $(#[$fmeta:meta])* $offset:literal => pub $field:ident : $ty:ty ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        const _: () = {
            assert!(::core::mem::size_of::<$name>() == $size, concat!(stringify!($name), ": size"));
            $( assert!(
                ::core::mem::offset_of!($name, $field) == $offset,
                concat!(stringify!($name), ".", stringify!($field), ": offset")
            ); )*
            assert!(
                0 $( + ::core::mem::size_of::<$ty>() )* == $size,
                concat!(stringify!($name), ": hidden padding")
            );
        };

        impl $name {
            /// Of each field its name, its offset and its bytes, for the test that tells other layouts.
            pub const FIELDS: &'static [(&'static str, usize, usize)] =
                &[$( (stringify!($field), $offset, ::core::mem::size_of::<$ty>()), )*];

            /// All bytes zero, which every type of this crate allows.
            pub const fn zeroed() -> Self {
                // SAFETY: the fields are integers and arrays of them, for which zero is a value.
                unsafe { ::core::mem::zeroed() }
            }

            /// Its bytes, as a map holds them.
            pub const fn to_bytes(self) -> [u8; $size] {
                // SAFETY: of the same size, asserted above, and without padding.
                unsafe { ::core::mem::transmute::<Self, [u8; $size]>(self) }
            }

            /// From its bytes, as a map holds them; `None` when there are fewer or more.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let bytes: [u8; $size] = bytes.try_into().ok()?;
                // SAFETY: of the same size, asserted above, and every bit pattern is a value.
                Some(unsafe { ::core::mem::transmute::<[u8; $size], Self>(bytes) })
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::zeroed()
            }
        }

        // SAFETY: repr(C), no padding (asserted above), every bit pattern is a value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    };
}
