// SPDX-License-Identifier: GPL-2.0-only

//! Files: the device node, anonymous files, and their operations as safe trait methods.
//!
//! The `kernel` crate's `MiscDevice` has no `poll`, and in 7.2 no owner, without which a module can
//! be unloaded under an open file. Here every file's operations name the module as their owner: the
//! kernel takes a reference to it before `open` and gives it back after `release` (`__fput()`).

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::ffi::c_int;
use kernel::ffi::c_long;
use kernel::ffi::c_uint;
use kernel::ffi::c_ulong;
use kernel::fs::file::flags::O_CLOEXEC;
use kernel::fs::file::flags::O_NONBLOCK;
use kernel::fs::file::FileDescriptorReservation;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;
use kernel::uaccess::UserPtr;
use kernel::uaccess::UserSlice;
use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;

use super::ffi;

/// What a file of some kind does. Methods may run at once on several threads.
pub(crate) trait FileOps: Send + Sync + Sized + 'static {
    /// What a device node of this kind hands to each `open`.
    type Context: Send + Sync;

    /// The device node was opened. Anonymous files are made with their content and never come here.
    fn open(_context: &Arc<Self::Context>) -> Result<Arc<Self>> {
        Err(ENXIO)
    }

    /// The last descriptor and the last mapping are gone.
    fn release(this: Arc<Self>);

    /// A request.
    fn ioctl(_this: &Arc<Self>, _request: &Request) -> Result {
        Err(ENOTTY)
    }

    /// A `read`; how many bytes it has written.
    fn read(&self, _request: &ReadRequest) -> Result<usize> {
        Err(EINVAL)
    }

    /// A mapping. The caller holds the address space's lock: nothing may be taken here under which
    /// anybody touches user memory.
    fn mmap(&self, _vma: &Vma<'_>) -> Result {
        Err(ENODEV)
    }

    /// What is ready, as `POLL` bits; registers with a wait queue through the request.
    fn poll(&self, _request: &PollRequest<'_>) -> u32 {
        0
    }
}

/// A kind of file: its operations, at one address for as long as the module is loaded.
pub(crate) struct FileKind<T: FileOps> {
    operations: bindings::file_operations,
    content: PhantomData<fn(T)>,
}

// SAFETY: The operations are constant.
unsafe impl<T: FileOps> Sync for FileKind<T> {}

// Its address is all that is used of it.
#[allow(improper_ctypes)]
extern "C" {
    static __this_module: bindings::module;
}

impl<T: FileOps> FileKind<T> {
    /// The operations that lead to `T`.
    pub(crate) const fn new() -> Self {
        // SAFETY: All bytes zero are valid operations: no function, no flag, no owner.
        let mut operations: bindings::file_operations = unsafe { core::mem::zeroed() };
        operations.owner = core::ptr::addr_of!(__this_module).cast_mut();
        operations.open = Some(open::<T>);
        operations.release = Some(release::<T>);
        operations.unlocked_ioctl = Some(ioctl::<T>);
        // Structures have one layout for 32-bit and 64-bit programs.
        operations.compat_ioctl = Some(ioctl::<T>);
        operations.mmap = Some(mmap::<T>);
        operations.get_unmapped_area = Some(unmapped_area);
        operations.poll = Some(poll::<T>);
        operations.read = Some(read::<T>);
        Self {
            operations,
            content: PhantomData,
        }
    }

    /// A file of this kind that is in no file system, with a descriptor reserved for it.
    pub(crate) fn anonymous(
        &'static self,
        name: &'static CStr,
        content: Arc<T>,
    ) -> Result<NewFile> {
        let reservation = FileDescriptorReservation::get_unused_fd_flags(O_CLOEXEC)?;
        let private = Arc::into_raw(content);
        // SAFETY: The operations live as long as the module, which the file keeps loaded; they expect
        // an Arc's pointer as private data.
        let file = from_err_ptr(unsafe {
            ffi::nettap_anon_file(
                name.as_ptr().cast(),
                core::ptr::from_ref(&self.operations).cast(),
                private.cast_mut().cast(),
            )
        });
        match file {
            Ok(file) => Ok(NewFile {
                reservation: Some(reservation),
                file: NonNull::new(file.cast()).ok_or(ENFILE)?,
            }),
            Err(e) => {
                // SAFETY: No file took the Arc that was turned raw above.
                drop(unsafe { Arc::from_raw(private) });
                Err(e)
            }
        }
    }

    /// The content of a descriptor of this kind. `EBADF`: it is none.
    pub(crate) fn content_of(&'static self, fd: i32) -> Result<Arc<T>> {
        // SAFETY: Takes a number; gives a counted reference or null.
        let file = NonNull::new(unsafe { ffi::nettap_fget(fd) }).ok_or(EBADF)?;
        // SAFETY: The file is held.
        let private = unsafe {
            ffi::nettap_file_private(file.as_ptr(), core::ptr::from_ref(&self.operations).cast())
        };
        let content = NonNull::new(private.cast::<T>()).map(|private| {
            // SAFETY: The operations are ours, so private data is an Arc's pointer, and the file that
            // owns it is held.
            let borrowed = ManuallyDrop::new(unsafe { Arc::from_raw(private.as_ptr()) });
            Arc::clone(&borrowed)
        });
        // SAFETY: Releases the reference that fget took.
        unsafe { ffi::nettap_fput(file.as_ptr()) };
        content.ok_or(EBADF)
    }
}

/// An anonymous file that no process sees yet; dropped, it is released.
pub(crate) struct NewFile {
    reservation: Option<FileDescriptorReservation>,
    file: NonNull<bindings::file>,
}

impl NewFile {
    /// Its descriptor to be.
    pub(crate) fn fd(&self) -> u32 {
        self.reservation
            .as_ref()
            .map_or(u32::MAX, |r| r.reserved_fd())
    }

    /// Gives the descriptor to the process. From here on another thread may close it.
    pub(crate) fn install(mut self) {
        if let Some(reservation) = self.reservation.take() {
            // SAFETY: The file is valid and our reference to it passes to the ARef; anonymous files
            // have no position to be shared.
            let file = unsafe { ARef::<File>::from_raw(self.file.cast()) };
            core::mem::forget(self);
            reservation.fd_install(file);
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // SAFETY: Our reference, not installed.
        unsafe { ffi::nettap_fput(self.file.as_ptr().cast()) };
    }
}

/// A request of a program: its number, and the structure it points to, which is read once.
pub(crate) struct Request {
    command: u32,
    argument: usize,
}

impl Request {
    /// Direction, letter and number, without the size: equal for all sizes of one structure.
    pub(crate) fn number(&self) -> u32 {
        self.command & !(0x3fff << 16)
    }

    fn size(&self) -> usize {
        (self.command.wrapping_shr(16) & 0x3fff) as usize
    }

    /// Reads the structure. What an older program's lacks is zero; what a newer program's has more
    /// must be zero.
    pub(crate) fn read<S: FromBytes + IntoBytes>(&self) -> Result<S> {
        let mut value = S::new_zeroed();
        let known = size_of::<S>().min(self.size());
        let mut reader = UserSlice::new(UserPtr::from_addr(self.argument), self.size()).reader();
        let bytes = value.as_mut_bytes().get_mut(..known).ok_or(EINVAL)?;
        reader.read_slice(bytes)?;
        let mut more = [0u8; 64];
        while !reader.is_empty() {
            let n = reader.len().min(more.len());
            let part = more.get_mut(..n).ok_or(EINVAL)?;
            reader.read_slice(part)?;
            if part.iter().any(|&b| b != 0) {
                return Err(E2BIG);
            }
        }
        Ok(value)
    }

    /// Writes the structure back, as much of it as the program has room for.
    pub(crate) fn write<S: IntoBytes + Immutable>(&self, value: &S) -> Result {
        write_user(self.argument, value, self.size())
    }
}

/// Writes up to `room` bytes of a structure to a program's address and fills what is left with zero.
pub(crate) fn write_user<S: IntoBytes + Immutable>(
    address: usize,
    value: &S,
    room: usize,
) -> Result {
    let mut writer = UserSlice::new(UserPtr::from_addr(address), room).writer();
    let known = size_of::<S>().min(room);
    writer.write_slice(value.as_bytes().get(..known).ok_or(EINVAL)?)?;
    let zeros = [0u8; 64];
    while !writer.is_empty() {
        let n = writer.len().min(zeros.len());
        writer.write_slice(zeros.get(..n).ok_or(EINVAL)?)?;
    }
    Ok(())
}

/// A `read` call in progress.
pub(crate) struct ReadRequest {
    address: usize,
    room: usize,
    nonblocking: bool,
}

impl ReadRequest {
    /// Bytes that the program has room for.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Whether the call must not wait.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.nonblocking
    }

    /// Writes `size` bytes of a structure behind the first `at`: what the structure lacks is zero.
    pub(crate) fn write<S: IntoBytes + Immutable>(
        &self,
        at: usize,
        value: &S,
        size: usize,
    ) -> Result {
        let end = at.checked_add(size).ok_or(EINVAL)?;
        if end > self.room {
            return Err(EINVAL);
        }
        let address = self.address.checked_add(at).ok_or(EFAULT)?;
        write_user(address, value, size)
    }
}

/// The area of an `mmap` call in progress.
pub(crate) struct Vma<'a>(NonNull<bindings::vm_area_struct>, PhantomData<&'a ()>);

impl Vma<'_> {
    /// Where in the file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        // SAFETY: Valid during the call.
        unsafe { ffi::nettap_vma_offset(self.as_ptr()) }
    }

    /// How long, in bytes.
    pub(crate) fn len(&self) -> u64 {
        // SAFETY: Valid during the call.
        unsafe { ffi::nettap_vma_length(self.as_ptr()) }
    }

    /// Whether it is `MAP_SHARED`.
    pub(crate) fn is_shared(&self) -> bool {
        // SAFETY: Valid during the call.
        unsafe { ffi::nettap_vma_is_shared(self.as_ptr()) }
    }

    /// Whether the program asked to write.
    pub(crate) fn is_writable(&self) -> bool {
        // SAFETY: Valid during the call.
        unsafe { ffi::nettap_vma_is_writable(self.as_ptr()) }
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::vm_area_struct {
        self.0.as_ptr().cast()
    }
}

/// A `poll` call in progress.
pub(crate) struct PollRequest<'a> {
    file: NonNull<bindings::file>,
    table: *mut bindings::poll_table_struct,
    call: PhantomData<&'a ()>,
}

impl PollRequest<'_> {
    pub(super) fn file(&self) -> *mut ffi::file {
        self.file.as_ptr().cast()
    }

    pub(super) fn table(&self) -> *mut ffi::poll_table_struct {
        self.table.cast()
    }

    /// The events that the caller wants to be told.
    pub(crate) fn asked(&self) -> u32 {
        // SAFETY: What the kernel has passed to the call in progress: null, or valid while it lasts.
        unsafe { ffi::nettap_poll_asked(self.table()) }
    }
}

/// # Safety
///
/// misc_open() calls it with a file that is being opened by the node of a [`DeviceNode`].
unsafe extern "C" fn open<T: FileOps>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    from_result(|| {
        // SAFETY: The file is being opened and is this call's alone.
        let node = unsafe { (*file).private_data };
        // SAFETY: misc_open() puts the device there, which is the first field of our pinned node;
        // it holds the module, so the node lives.
        let node = unsafe { &*node.cast::<Node<T::Context>>() };
        let content = T::open(&node.context)?;
        // SAFETY: As above.
        unsafe { (*file).private_data = Arc::into_raw(content).cast_mut().cast() };
        Ok(0)
    })
}

/// # Safety
///
/// The kernel calls it once, with the last reference to a file of kind `T`.
unsafe extern "C" fn release<T: FileOps>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The file is valid, and nobody changes its private data after `open`.
    let private = unsafe { (*file).private_data };
    // SAFETY: It is what `open` or `anonymous` put there; release is called once.
    T::release(unsafe { Arc::from_raw(private.cast::<T>()) });
    0
}

/// The content of a file during one of its operations.
///
/// # Safety
///
/// `file` is one of ours, opened, and valid for the whole of `'a`.
unsafe fn content<'a, T: FileOps>(file: *mut bindings::file) -> ManuallyDrop<Arc<T>> {
    // SAFETY: Valid, by the caller's promise.
    let private = unsafe { (*file).private_data };
    // SAFETY: It is what `open` or `anonymous` put there; its count is not touched.
    ManuallyDrop::new(unsafe { Arc::from_raw(private.cast::<T>()) })
}

/// # Safety
///
/// The kernel calls it with a file of kind `T` that it holds.
unsafe extern "C" fn ioctl<T: FileOps>(
    file: *mut bindings::file,
    command: c_uint,
    argument: c_ulong,
) -> c_long {
    // SAFETY: The kernel holds the file during the call.
    let this = unsafe { content::<T>(file) };
    let request = Request {
        command,
        argument: argument as usize,
    };
    match T::ioctl(&this, &request) {
        Ok(()) => 0,
        Err(e) => e.to_errno() as c_long,
    }
}

/// # Safety
///
/// The kernel calls it with a file of kind `T` that it holds and the area being made.
unsafe extern "C" fn mmap<T: FileOps>(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The kernel holds the file during the call.
    let this = unsafe { content::<T>(file) };
    let Some(vma) = NonNull::new(vma) else {
        return EINVAL.to_errno();
    };
    from_result(|| this.mmap(&Vma(vma, PhantomData)).map(|()| 0))
}

/// # Safety
///
/// The kernel calls it with a file that it holds, for an mmap that is to come.
unsafe extern "C" fn unmapped_area(
    file: *mut bindings::file,
    address: c_ulong,
    length: c_ulong,
    offset: c_ulong,
    flags: c_ulong,
) -> c_ulong {
    // SAFETY: The kernel's own function, with what the kernel has given.
    unsafe { ffi::nettap_unmapped_area(file.cast(), address, length, offset, flags) }
}

/// # Safety
///
/// The kernel calls it with a file of kind `T` that it holds and a program's address.
unsafe extern "C" fn read<T: FileOps>(
    file: *mut bindings::file,
    to: *mut c_char,
    room: usize,
    _position: *mut bindings::loff_t,
) -> isize {
    // SAFETY: The kernel holds the file during the call.
    let this = unsafe { content::<T>(file) };
    // SAFETY: As above. Another thread may change the flags meanwhile.
    let flags = unsafe { core::ptr::addr_of!((*file).f_flags).read_volatile() };
    let request = ReadRequest {
        address: to as usize,
        room,
        nonblocking: flags & O_NONBLOCK != 0,
    };
    match this.read(&request) {
        // A `read` is never longer than MAX_RW_COUNT (fs/read_write.c, vfs_read()).
        Ok(written) => written as isize,
        Err(e) => e.to_errno() as isize,
    }
}

/// # Safety
///
/// The kernel calls it with a file of kind `T` that it holds and a valid table.
unsafe extern "C" fn poll<T: FileOps>(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: The kernel holds the file during the call.
    let this = unsafe { content::<T>(file) };
    let Some(file) = NonNull::new(file) else {
        return 0;
    };
    this.poll(&PollRequest {
        file,
        table,
        call: PhantomData,
    })
}

/// What the misc subsystem knows, and what we want back from it at `open`.
#[repr(C)]
struct Node<C> {
    device: bindings::miscdevice,
    context: Arc<C>,
}

/// The device node; it goes with this value.
pub(crate) struct DeviceNode<C>(KBox<Node<C>>);

// SAFETY: Registered and deregistered under the misc subsystem's own lock; the context is Sync.
unsafe impl<C: Send + Sync> Send for DeviceNode<C> {}
// SAFETY: As for Send.
unsafe impl<C: Send + Sync> Sync for DeviceNode<C> {}

impl<C: Send + Sync> DeviceNode<C> {
    /// Makes `/dev/NAME`, accessible to root and its group.
    pub(crate) fn register<T: FileOps<Context = C>>(
        name: &'static CStr,
        kind: &'static FileKind<T>,
        context: Arc<C>,
    ) -> Result<Self> {
        // SAFETY: All bytes zero are a valid, unregistered device.
        let mut device: bindings::miscdevice = unsafe { core::mem::zeroed() };
        device.minor = bindings::MISC_DYNAMIC_MINOR as c_int;
        device.name = name.as_ptr().cast();
        device.fops = &kind.operations;
        device.mode = 0o660;
        let mut node = KBox::new(Node { device, context }, GFP_KERNEL)?;
        // SAFETY: The box does not move its content, and the drop deregisters it.
        to_result(unsafe { bindings::misc_register(&mut node.device) })?;
        Ok(Self(node))
    }
}

impl<C> Drop for DeviceNode<C> {
    fn drop(&mut self) {
        // SAFETY: Registered by `register`, once.
        unsafe { bindings::misc_deregister(&mut self.0.device) };
    }
}
