// SPDX-License-Identifier: GPL-2.0-only

//! QEMU's interface for plugins, as far as this one needs it, and all of the plugin's `unsafe`.
//! (qemu-plugin.h of QEMU 10; Debian has no package with it.)

use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

/// `qemu_plugin_u64`: a counter inside of a scoreboard.
#[repr(C)]
struct Counter {
    scoreboard: *mut c_void,
    offset: usize,
}

/// `qemu_plugin_reg_descriptor`.
#[repr(C)]
struct Descriptor {
    handle: *mut c_void,
    name: *const c_char,
    feature: *const c_char,
}

/// `GArray` and `GByteArray`.
#[repr(C)]
struct Array {
    data: *mut u8,
    length: c_uint,
}

type OnTranslation = extern "C" fn(u64, *mut c_void);
type OnEnd = extern "C" fn(u64, *mut c_void);
type OnExecution = extern "C" fn(c_uint, *mut c_void);

/// `QEMU_PLUGIN_INLINE_ADD_U64`
const ADD: c_int = 0;
/// `QEMU_PLUGIN_CB_NO_REGS`, `QEMU_PLUGIN_CB_R_REGS`
const NO_REGISTERS: c_int = 0;
const READS_REGISTERS: c_int = 1;

extern "C" {
    fn qemu_plugin_register_vcpu_init_cb(id: u64, call: extern "C" fn(u64, c_uint));
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, call: OnTranslation);
    fn qemu_plugin_register_atexit_cb(id: u64, call: OnEnd, data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const c_void) -> u64;
    fn qemu_plugin_tb_get_insn(block: *const c_void, nth: usize) -> *mut c_void;
    fn qemu_plugin_insn_data(instruction: *const c_void, to: *mut c_void, size: usize) -> usize;
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut c_void,
        call: OnExecution,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
        block: *mut c_void,
        operation: c_int,
        counter: Counter,
        operand: u64,
    );
    fn qemu_plugin_scoreboard_new(size: usize) -> *mut c_void;
    fn qemu_plugin_scoreboard_find(scoreboard: *mut c_void, vcpu: c_uint) -> *mut c_void;
    fn qemu_plugin_get_registers() -> *mut Array;
    fn qemu_plugin_read_register(handle: *mut c_void, into: *mut Array) -> c_int;
    fn g_byte_array_new() -> *mut Array;
    fn g_byte_array_set_size(array: *mut Array, length: c_uint) -> *mut Array;
}

static SCOREBOARD: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static REGISTERS: Mutex<Vec<(String, usize)>> = Mutex::new(Vec::new());

/// The arguments that QEMU hands over.
///
/// # Safety
///
/// `argv` has `argc` strings.
pub(crate) unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<String> {
    let one = |nth: usize| {
        // SAFETY: `nth` is less than `argc`.
        let place = unsafe { argv.add(nth) };
        // SAFETY: likewise.
        let text = unsafe { *place };
        // SAFETY: a string that ends with a zero, says the caller.
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned()
    };
    (0..usize::try_from(argc).unwrap_or(0)).map(one).collect()
}

/// Says what is to be called, and makes room for counters.
pub(crate) fn prepare(id: u64, counters: usize, translation: OnTranslation, end: OnEnd) {
    // SAFETY: QEMU is in the middle of installing us, when all of these may be called.
    let scoreboard = unsafe { qemu_plugin_scoreboard_new(counters * size_of::<u64>()) };
    SCOREBOARD.store(scoreboard, Ordering::Release);
    // SAFETY: likewise.
    unsafe { qemu_plugin_register_vcpu_init_cb(id, on_processor) };
    // SAFETY: likewise.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translation) };
    // SAFETY: likewise.
    unsafe { qemu_plugin_register_atexit_cb(id, end, null_mut()) };
}

/// The registers have names only while a processor begins.
extern "C" fn on_processor(_id: u64, _vcpu: c_uint) {
    // SAFETY: called by QEMU in the context that this is for.
    let array = unsafe { qemu_plugin_get_registers() };
    // SAFETY: an array of GLib's, or null.
    let Some(array) = (unsafe { array.as_ref() }) else {
        return;
    };
    let first = array.data.cast::<Descriptor>();
    // SAFETY: so many descriptors stand there.
    let all = unsafe { std::slice::from_raw_parts(first, array.length as usize) };
    let mut registers = REGISTERS.lock().unwrap_or_else(PoisonError::into_inner);
    *registers = all
        .iter()
        .map(|one| {
            // SAFETY: a string that ends with a zero.
            let name = unsafe { CStr::from_ptr(one.name) };
            (name.to_string_lossy().into_owned(), one.handle as usize)
        })
        .collect();
}

/// A register of the processor that executes, by its name; inside of a call that reads registers.
pub(crate) fn register(name: &str) -> Option<u64> {
    let registers = REGISTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, handle) = registers.iter().find(|(known, _)| known == name)?;
    static BUFFER: AtomicPtr<Array> = AtomicPtr::new(null_mut());
    if BUFFER.load(Ordering::Relaxed).is_null() {
        // SAFETY: makes an array.
        BUFFER.store(unsafe { g_byte_array_new() }, Ordering::Relaxed);
    }
    let buffer = BUFFER.load(Ordering::Relaxed);
    // SAFETY: our array; the lock above keeps it ours.
    unsafe { g_byte_array_set_size(buffer, 0) };
    // SAFETY: a handle of QEMU's, and our array.
    let length = unsafe { qemu_plugin_read_register(*handle as *mut c_void, buffer) };
    // SAFETY: our array.
    let data = unsafe { (*buffer).data };
    // SAFETY: QEMU has appended so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(data, usize::try_from(length).ok()?) };
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}

/// The counters, as far as there are some.
pub(crate) fn counters(n: usize) -> &'static [u64] {
    let scoreboard = SCOREBOARD.load(Ordering::Acquire);
    // SAFETY: the scoreboard that we made, and the guest's first processor.
    let first = unsafe { qemu_plugin_scoreboard_find(scoreboard, 0) }.cast::<u64>();
    // SAFETY: made with so many; the processor that increments them is the one that calls us.
    unsafe { std::slice::from_raw_parts(first, n) }
}

/// A block that is being translated.
pub(crate) struct Block(pub(crate) *mut c_void);

impl Block {
    pub(crate) fn address(&self) -> u64 {
        // SAFETY: QEMU's own block, during its translation.
        unsafe { qemu_plugin_tb_vaddr(self.0) }
    }

    pub(crate) fn instructions(&self) -> impl Iterator<Item = Instruction> + '_ {
        // SAFETY: likewise.
        let n = unsafe { qemu_plugin_tb_n_insns(self.0) };
        // SAFETY: likewise, and `nth` is one of them.
        (0..n).map(|nth| Instruction::new(unsafe { qemu_plugin_tb_get_insn(self.0, nth) }))
    }

    /// Has each execution counted.
    pub(crate) fn count(&self, slot: usize) {
        let counter = Counter {
            scoreboard: SCOREBOARD.load(Ordering::Acquire),
            offset: slot * size_of::<u64>(),
        };
        // SAFETY: likewise; the counter is inside of the scoreboard.
        unsafe { qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(self.0, ADD, counter, 1) };
    }
}

/// An instruction of such a block.
pub(crate) struct Instruction {
    instruction: *mut c_void,
    bytes: [u8; 16],
    length: usize,
}

impl Instruction {
    fn new(instruction: *mut c_void) -> Self {
        let mut bytes = [0; 16];
        let to = bytes.as_mut_ptr().cast();
        // SAFETY: QEMU's own instruction, and so much room.
        let length = unsafe { qemu_plugin_insn_data(instruction, to, bytes.len()) };
        Self {
            instruction,
            bytes,
            length,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }

    /// Has a function called at each execution.
    pub(crate) fn on_execution(&self, call: OnExecution, reads: bool, data: usize) {
        let flags = if reads { READS_REGISTERS } else { NO_REGISTERS };
        let data = data as *mut c_void;
        // SAFETY: QEMU's own instruction, during its translation.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(self.instruction, call, flags, data) };
    }
}
