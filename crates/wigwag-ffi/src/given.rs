//! What C has handed in: handles, texts, bytes, options, and places for results. All unsafe code of the interface is
//! here, so that the rest is as safe as the callers keep their promises.
//!
//! **Invariant A1.** Nothing in Rust can call an exported function: each pointer in it comes from C, whose promise,
//! stated in the header, is that it is null or what the header says of it. A handle lives until it is given to the
//! function that ends it.
//!
//! **Invariant A2.** Whatever borrows from a client, a sender or a publisher lies in an object that belongs to it, and
//! that one's own object is freed only when none of these is out.

#![allow(unsafe_code, reason = "pointers from C")]

use std::borrow::Cow;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result};

/// A place whose owner knows whether something is in it: an `Option` without a mark of its own. A value goes in and out
/// by registers, where an enum of several would be copied through memory, in pieces that the processor has to wait for:
/// that was half of a call's time.
///
/// **Invariant A3.** `full` of the object that has it says so, and changes with each `put` and `take`.
pub struct Room<T>(MaybeUninit<T>);

impl<T> Room<T> {
    /// With nothing in it.
    pub const EMPTY: Room<T> = Room(MaybeUninit::uninit());

    /// Into an empty one, word by word, so that they come back out word by word: the compiler would write several at a
    /// time, or read several that were written one by one just before, for which the processor waits. Only the writes
    /// are volatile: what is read stays in registers.
    #[inline(always)]
    pub fn put(&mut self, value: T) {
        const { assert!(size_of::<T>().is_multiple_of(size_of::<u64>()) && align_of::<T>() == align_of::<u64>()) }
        let value = std::mem::ManuallyDrop::new(value);
        let from = std::ptr::from_ref(&value).cast::<MaybeUninit<u64>>();
        let to = self.0.as_mut_ptr().cast::<MaybeUninit<u64>>();
        for word in 0..size_of::<T>() / size_of::<u64>() {
            // SAFETY: both have so many words, and what was there is nobody's (A3); the value is not used after this.
            unsafe { to.add(word).write_volatile(from.add(word).read()) };
        }
    }

    /// Out of a full one, which is empty then.
    #[inline(always)]
    pub fn take(&mut self) -> T {
        // SAFETY: its owner says that it is full, and from now on that it is not (A3).
        unsafe { self.0.assume_init_read() }
    }

    /// What is in a full one.
    #[inline(always)]
    pub fn get(&mut self) -> &mut T {
        // SAFETY: its owner says that it is full (A3).
        unsafe { self.0.assume_init_mut() }
    }
}

/// What C sees of a handle: a name, and nothing inside.
pub trait Opaque {
    /// What is behind it.
    type Inner;
    /// Stands at the beginning of each such object.
    const MAGIC: u64;
    /// Its name in the header.
    const NAME: &'static str;
}

/// Makes the types that C sees.
macro_rules! opaque {
    ($($(#[$about:meta])* $name:ident = $inner:ty, $magic:literal;)*) => {$(
        impl crate::given::Opaque for $name {
            type Inner = $inner;
            const MAGIC: u64 = u64::from_be_bytes(*$magic);
            const NAME: &'static str = stringify!($name);
        }
    )*};
}
pub(crate) use opaque;

/// In the place of the magic once the object is freed: seen until the memory is somebody else's.
const FREED: u64 = u64::from_be_bytes(*b"wwFreed!");

/// What a handle points to.
#[repr(C)]
pub struct Object<T> {
    magic: Cell<u64>,
    /// How many calls are in it: one that must be alone counts as -1.
    inside: AtomicI32,
    value: UnsafeCell<T>,
}

const ALONE: i32 = -1;

impl<T> Object<T> {
    /// One of the kind that `magic` says.
    pub fn new(magic: u64, value: T) -> Object<T> {
        Object { magic: Cell::new(magic), inside: AtomicI32::new(0), value: UnsafeCell::new(value) }
    }

    /// From now on no function takes it.
    pub fn retire(&self) {
        self.magic.set(FREED);
    }

    /// Enters it alone.
    #[inline(always)]
    pub fn enter(&self) -> Result<Alone<'_, T>> {
        // No read-modify-write: this notices a call that is in it, not two that come at the same instant.
        if self.inside.load(Ordering::Relaxed) != 0 {
            return Err(in_use());
        }
        self.inside.store(ALONE, Ordering::Relaxed);
        Ok(Alone(self))
    }

    /// Enters it beside others.
    pub fn enter_shared(&self) -> Result<Shared<'_, T>> {
        if self.inside.fetch_add(1, Ordering::Relaxed) < 0 {
            self.inside.fetch_sub(1, Ordering::Relaxed);
            return Err(in_use());
        }
        Ok(Shared(self))
    }
}

#[cold]
fn in_use() -> Failure {
    Failure::interface(
        wigwag_code::WIGWAG_ERR_IN_USE,
        "another call is in this handle: of another thread, or the one whose handler this is",
    )
}

/// A call that is alone in an object.
pub struct Alone<'o, T>(&'o Object<T>);

impl<T> Deref for Alone<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: nobody else is in it (A1, and `enter`).
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Alone<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: nobody else is in it (A1, and `enter`).
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Alone<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.inside.store(0, Ordering::Relaxed);
    }
}

/// A call that is in an object beside others.
pub struct Shared<'o, T>(&'o Object<T>);

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: who changes it is alone in it (A1, and `enter_shared`).
        unsafe { &*self.0.value.get() }
    }
}

impl<T> Drop for Shared<'_, T> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The object behind a handle.
#[inline(always)]
pub fn object<'o, O: Opaque>(handle: *const O) -> Result<&'o Object<O::Inner>> {
    if handle.is_null() {
        return Err(no_handle::<O>(None));
    }
    // SAFETY: A1. Of a handle that was freed this reads what is there now, which is where noticing ends; of something
    // else than a handle it may lie anyhow.
    let magic = unsafe { handle.cast::<u64>().read_unaligned() };
    if magic != O::MAGIC {
        return Err(no_handle::<O>(Some(magic)));
    }
    // SAFETY: it is such an object, as its mark says (A1), and these are aligned.
    Ok(unsafe { &*handle.cast::<Object<O::Inner>>() })
}

#[cold]
fn no_handle<O: Opaque>(found: Option<u64>) -> Failure {
    let name = O::NAME;
    let Some(magic) = found else {
        return Failure::interface(wigwag_code::WIGWAG_ERR_NULL, format!("the {name} is NULL"));
    };
    let text = match magic {
        FREED => format!("this {name} has been ended or freed"),
        magic if magic.to_be_bytes().starts_with(b"ww") => {
            let what = magic.to_be_bytes()[2..].escape_ascii().to_string();
            format!("this is no {name}: it is marked `{what}`")
        }
        _ => format!("this is no {name}: it was never one, or its memory is somebody else's by now"),
    };
    Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_HANDLE, text)
}

/// What is behind a handle, for a call that must be alone there.
#[inline(always)]
pub fn alone<'o, O: Opaque>(handle: *const O) -> Result<Alone<'o, O::Inner>>
where
    O::Inner: 'o,
{
    object(handle)?.enter()
}

/// What is behind a handle, for a call that others may be beside.
pub fn shared<'o, O: Opaque>(handle: *const O) -> Result<Shared<'o, O::Inner>>
where
    O::Inner: 'o,
{
    object(handle)?.enter_shared()
}

/// A new handle.
pub fn give<O: Opaque>(value: O::Inner) -> *mut O {
    Box::into_raw(Box::new(Object::new(O::MAGIC, value))).cast()
}

/// Takes back what is behind a handle, which is one no more.
pub fn take<O: Opaque>(handle: *mut O) -> Result<O::Inner> {
    let object: &Object<O::Inner> = object(handle)?;
    let inside = object.enter()?;
    object.retire();
    drop(inside);
    // SAFETY: `give` made it of a box, and the mark that it was one is gone since (A1).
    let object = unsafe { Box::from_raw(handle.cast::<Object<O::Inner>>()) };
    Ok(object.value.into_inner())
}

/// Frees an object that `Box::into_raw` made, at the word of its owner.
pub fn free_object<T>(object: NonNull<Object<T>>) {
    // SAFETY: its owner had it of a box, and forgets it (A2).
    drop(unsafe { Box::from_raw(object.as_ptr()) });
}

/// What is in an object that belongs to another one, for a call that is alone in that other one.
#[inline(always)]
pub fn inside<'o, T>(object: NonNull<Object<T>>) -> &'o mut T {
    // SAFETY: its owner has not freed it (A2), and who is alone with the owner is alone with what belongs to it.
    unsafe { &mut *object.as_ref().value.get() }
}

/// An object that its owner has and does not free while it is looked at.
pub fn owned<'o, T>(object: NonNull<Object<T>>) -> &'o Object<T> {
    // SAFETY: its owner has not freed it (A2).
    unsafe { object.as_ref() }
}

/// Something that others borrow from, in a place of its own: whoever has it may move meanwhile.
pub struct Kept<T>(NonNull<T>);

impl<T> Kept<T> {
    /// Gives it a place.
    pub fn new(value: T) -> Kept<T> {
        Kept(NonNull::from(Box::leak(Box::new(value))))
    }

    /// For what borrows from it and lies in an object that belongs to it.
    #[inline(always)]
    pub fn lend(&self) -> &'static T {
        // SAFETY: it stays until nothing borrows from it any more (A2).
        unsafe { self.0.as_ref() }
    }

    /// As [`Kept::lend`], to one who is alone with it: until that is over, nobody else uses it.
    #[inline(always)]
    pub fn lend_alone(&mut self) -> &'static mut T {
        // SAFETY: as above, and nothing else is lent meanwhile (A2).
        unsafe { self.0.as_mut() }
    }

    /// Without its place.
    pub fn into_inner(self) -> T {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `new` made it of a box, and nobody has it after this (A2).
        *unsafe { Box::from_raw(this.0.as_ptr()) }
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        // SAFETY: `new` made it of a box, and nothing borrows from it any more (A2).
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A request that lives on the stack of whoever called the handler.
pub fn lent_by_handler<'r, T>(pointer: NonNull<T>) -> &'r mut T {
    // SAFETY: the handler has not returned, or its object would be retired (A1).
    unsafe { &mut *pointer.as_ptr() }
}

/// A place for a result.
#[derive(Clone, Copy)]
pub struct Place<T>(NonNull<T>);

impl<T> Place<T> {
    /// The result is there.
    #[inline(always)]
    pub fn put(self, value: T) {
        // SAFETY: it is valid for a write of a `T` (A1), however it lies.
        unsafe { self.0.as_ptr().write_unaligned(value) };
    }
}

/// A place for a result that C must give.
#[inline(always)]
pub fn place<T>(out: *mut T, what: &'static str) -> Result<Place<T>> {
    match NonNull::new(out) {
        Some(out) => Ok(Place(out)),
        None => Err(no_place(what)),
    }
}

#[cold]
fn no_place(what: &'static str) -> Failure {
    Failure::interface(wigwag_code::WIGWAG_ERR_NULL, format!("`{what}` is NULL, and the result has no place"))
}

/// A result that C need not want.
#[inline(always)]
pub fn put_if_wanted<T>(out: *mut T, value: T) {
    if let Some(out) = NonNull::new(out) {
        Place(out).put(value);
    }
}

/// Bytes that C has; the call uses them and returns.
#[inline(always)]
pub fn bytes<'b>(data: *const c_void, len: usize) -> Result<&'b [u8]> {
    array(data.cast(), len, "data")
}

/// Bytes of C's that the call fills.
pub fn bytes_mut<'b>(data: *mut c_void, len: usize) -> Result<&'b mut [u8]> {
    array_mut(data.cast(), len, "data")
}

/// Items that C has.
#[inline(always)]
pub fn array<'b, T>(items: *const T, count: usize, what: &'static str) -> Result<&'b [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check_array(items, count, what)?;
    // SAFETY: so many are there (A1), and they take no more room than an address space has.
    Ok(unsafe { std::slice::from_raw_parts(items, count) })
}

/// Items of C's that the call fills.
pub fn array_mut<'b, T>(items: *mut T, count: usize, what: &'static str) -> Result<&'b mut [T]> {
    if count == 0 {
        return Ok(&mut []);
    }
    check_array(items, count, what)?;
    // SAFETY: so many are there, and nobody else uses them meanwhile (A1).
    Ok(unsafe { std::slice::from_raw_parts_mut(items, count) })
}

#[inline(always)]
fn check_array<T>(items: *const T, count: usize, what: &'static str) -> Result<()> {
    let fits = count.checked_mul(size_of::<T>()).is_some_and(|size| size <= isize::MAX as usize);
    if items.is_null() || !items.is_aligned() || !fits {
        return Err(no_array(count, what));
    }
    Ok(())
}

#[cold]
fn no_array(count: usize, what: &'static str) -> Failure {
    let text = format!("`{what}` is no place of {count} items: it is NULL, not aligned, or larger than any memory");
    Failure::interface(wigwag_code::WIGWAG_ERR_NULL, text)
}

/// A text that C must give.
pub fn text<'t>(text: *const c_char, what: &'static str) -> Result<&'t CStr> {
    match optional_text(text) {
        Some(text) => Ok(text),
        None => Err(Failure::interface(wigwag_code::WIGWAG_ERR_NULL, format!("`{what}` is NULL"))),
    }
}

/// A text that C need not give.
pub fn optional_text<'t>(text: *const c_char) -> Option<&'t CStr> {
    // SAFETY: it ends with a zero byte (A1).
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// The name of a service.
pub fn name<'t>(name: *const c_char) -> Result<&'t OsStr> {
    Ok(OsStr::from_bytes(text(name, "name")?.to_bytes()))
}

/// A text for people.
pub fn words<'t>(words: *const c_char, what: &'static str) -> Result<Cow<'t, str>> {
    Ok(text(words, what)?.to_string_lossy())
}

/// A descriptor of C's, for the time of a call.
pub fn descriptor<'d>(fd: RawFd) -> Result<BorrowedFd<'d>> {
    if fd < 0 {
        return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, format!("{fd} is no descriptor")));
    }
    // SAFETY: it is open for the time of the call (A1).
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A descriptor that C gives away.
pub fn owned_descriptor(fd: RawFd) -> Result<OwnedFd> {
    descriptor(fd)?;
    // SAFETY: it is open, and C's no more (A1).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A struct of the header that is plain memory, begins with its own size in bytes, and whose zeros mean that nothing
/// is said.
///
/// # Safety
/// It is `repr(C)`, its first field is a `usize`, and all zeros are a value of it.
// SAFETY: as above; `plain!` says so of each (A1).
pub unsafe trait Sized1st: Copy {}

/// Says so of a struct of numbers and pointers.
macro_rules! plain {
    ($name:ident) => {
        const _: () = assert!(std::mem::offset_of!($name, size) == 0);
        // SAFETY: the header's structs are `repr(C)`, and have numbers and pointers only (A1).
        unsafe impl crate::given::Sized1st for $name {}
    };
}
pub(crate) use plain;

/// The struct that C has, of whatever version of the header; what it does not have is zero.
pub fn sized<T: Sized1st>(given: *const T, what: &'static str) -> Result<T> {
    // SAFETY: all zeros are a value of it (`Sized1st`).
    let mut value: T = unsafe { std::mem::zeroed() };
    if given.is_null() {
        return Ok(value);
    }
    let size = size_of_given(given, what)?;
    let given = array(given.cast::<u8>(), size, what)?;
    let known = size.min(size_of::<T>());
    if let Some(at) = given[known..].iter().position(|&byte| byte != 0) {
        let text = format!(
            "byte {} of `{what}` says something that this version does not know: it is of a younger header",
            known + at
        );
        return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text));
    }
    // SAFETY: both have that many bytes, and any bytes of C's are a value of a plain struct (A1).
    unsafe { std::ptr::copy_nonoverlapping(given.as_ptr(), std::ptr::from_mut(&mut value).cast(), known) };
    Ok(value)
}

/// Fills a struct that C has, of whatever version of the header: as much of it as both know.
pub fn fill<T: Sized1st>(out: *mut T, value: T, what: &'static str) -> Result<()> {
    place(out, what)?;
    let size = size_of_given(out, what)?;
    let known = size.min(size_of::<T>());
    let from = std::ptr::from_ref(&value).cast::<u8>();
    let head = size_of::<usize>(); // its size stays what C has said
    // SAFETY: both have that many bytes (A1).
    unsafe { std::ptr::copy_nonoverlapping(from.add(head), out.cast::<u8>().add(head), known.saturating_sub(head)) };
    let rest = array_mut(out.cast::<u8>(), size, what)?;
    rest[known..].fill(0);
    Ok(())
}

fn size_of_given<T: Sized1st>(given: *const T, what: &'static str) -> Result<usize> {
    const SIZE_MAX: usize = 4096;
    check_array(given, 1, what)?;
    // SAFETY: its first field is there, whatever its version (A1, `Sized1st`).
    let size = unsafe { given.cast::<usize>().read() };
    if !(size_of::<usize>()..=SIZE_MAX).contains(&size) {
        let text = format!("`{what}->size` is {size}: set it to sizeof *{what}, and all that is not used to zero");
        return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text));
    }
    Ok(size)
}

/// A pointer of C's that is handed back to it as it is, maybe on another thread.
#[derive(Clone, Copy)]
pub struct User(pub *mut c_void);

// SAFETY: it is C's own, and what C does with it on several threads is C's promise (A1).
unsafe impl Send for User {}
// SAFETY: as above (A1).
unsafe impl Sync for User {}
