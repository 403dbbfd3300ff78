// SPDX-License-Identifier: GPL-2.0-only

//! A plugin of QEMU's emulator for `ntbench`: what the guest executes between two marks.
//!
//! Counting is the emulator's: each translated block gets a counter of its own, which generated code
//! increments. What a block is made of is known when it is translated: how many instructions, and how
//! many of them lock the bus. At the mark that ends a measurement the differences go to a file, which
//! `ntbench` reads beside the guest's symbols:
//!
//! ```text
//! mark 3                               the third measurement of this guest
//! block ffffffff81a2b3c0 900 12 1      address, times executed, instructions, LOCKed ones
//! copy ffffffff81f00000 8192 491520    a copying function: calls that copy a packet, their bytes
//! ```
//!
//! The copying functions are told by their addresses, `copy=ADDRESS:REGISTER`, with the register that
//! has the number of bytes. One processor in the guest; the kernel must not be moved (`nokaslr`).

mod api;

use api::{Block, Instruction};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Blocks that have counters of their own; what is translated later shares the last one, and is told.
const BLOCKS: usize = 1 << 18;

/// What copies less than this moves no packet.
const PACKET: u64 = 32;

/// `nop dword ptr [rax + …]` as `ntbench` executes it.
const MARK: [u8; 6] = [0x0f, 0x1f, 0x80, b'?', b'B', b'T'];
const MARK_LENGTH: usize = 7;

/// A block as it was translated.
struct Known {
    address: u64,
    instructions: u32,
    locked: u32,
    before: u64,
}

/// A copying function.
struct Copying {
    register: String,
    calls: u64,
    bytes: u64,
}

#[derive(Default)]
struct State {
    out: Option<BufWriter<File>>,
    blocks: Vec<Known>,
    slots: HashMap<(u64, u32), usize>,
    copying: HashMap<u64, Copying>,
    is_counting: bool,
    marks: u64,
}

static STATE: OnceLock<Mutex<State>> = OnceLock::new();

/// A panic must not unwind into QEMU, and one lock that was left behind is no reason for another.
fn with<R>(act: impl FnOnce(&mut State) -> R) -> R {
    let state = STATE.get_or_init(Mutex::default);
    act(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The version of the interface that this plugin speaks.
#[no_mangle]
#[allow(non_upper_case_globals)]
pub static qemu_plugin_version: c_int = 4;

/// Called by QEMU when it has loaded the plugin.
///
/// # Safety
///
/// `argv` has `argc` strings, as QEMU makes them.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: as this function's own contract says.
    for argument in unsafe { api::arguments(argc, argv) } {
        if let Err(error) = with(|state| state.told(&argument)) {
            eprintln!("ntcount: {argument}: {error}");
            return 1;
        }
    }
    api::prepare(id, BLOCKS, on_translation, on_end);
    0
}

impl State {
    /// One argument of the command line.
    fn told(&mut self, argument: &str) -> Result<(), Box<dyn std::error::Error>> {
        match argument.split_once('=') {
            Some(("out", path)) => self.out = Some(BufWriter::new(File::create(path)?)),
            Some(("copy", what)) => {
                let (address, register) = what.split_once(':').ok_or("no register")?;
                let copying = Copying {
                    register: register.to_owned(),
                    calls: 0,
                    bytes: 0,
                };
                self.copying
                    .insert(u64::from_str_radix(address, 16)?, copying);
            }
            _ => return Err("unknown".into()),
        }
        Ok(())
    }

    /// The counter of a block; the same code translated again has the same one.
    fn slot(&mut self, block: &Block) -> usize {
        let address = block.address();
        let instructions = block.instructions().count() as u32;
        if let Some(slot) = self.slots.get(&(address, instructions)) {
            return *slot;
        }
        let locked = block.instructions().filter(is_locked).count() as u32;
        let slot = self.blocks.len().min(BLOCKS - 1);
        if slot == self.blocks.len() {
            self.blocks.push(Known {
                address,
                instructions,
                locked,
                before: 0,
            });
            self.slots.insert((address, instructions), slot);
        } else {
            eprintln!("ntcount: more than {BLOCKS} blocks");
        }
        slot
    }

    fn begin(&mut self) {
        for (known, now) in self.blocks.iter_mut().zip(api::counters(BLOCKS)) {
            known.before = *now;
        }
        for copying in self.copying.values_mut() {
            (copying.calls, copying.bytes) = (0, 0);
        }
        self.marks += 1;
        self.is_counting = true;
    }

    fn end(&mut self) -> std::io::Result<()> {
        if !std::mem::take(&mut self.is_counting) {
            return Ok(());
        }
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        writeln!(out, "mark {}", self.marks)?;
        for (known, now) in self.blocks.iter().zip(api::counters(BLOCKS)) {
            let times = now.wrapping_sub(known.before);
            if times > 0 {
                let Known {
                    address,
                    instructions,
                    locked,
                    ..
                } = known;
                writeln!(out, "block {address:x} {times} {instructions} {locked}")?;
            }
        }
        for (address, Copying { calls, bytes, .. }) in &self.copying {
            writeln!(out, "copy {address:x} {calls} {bytes}")?;
        }
        out.flush()
    }
}

/// Whether an instruction locks the bus: it says so, or it exchanges with memory.
fn is_locked(instruction: &Instruction) -> bool {
    let bytes = instruction.bytes();
    let mut rest = bytes.iter().copied().skip_while(|byte| {
        matches!(
            byte,
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65
        )
    });
    let first = match rest.next() {
        Some(0xf0) => return true,
        Some(0x40..=0x4f) => rest.next(),
        other => other,
    };
    matches!(first, Some(0x86 | 0x87)) && rest.next().is_some_and(|mode| mode < 0xc0)
}

/// QEMU has translated a block.
extern "C" fn on_translation(_id: u64, block: *mut c_void) {
    let block = Block(block);
    with(|state| {
        let slot = state.slot(&block);
        block.count(slot);
        if let Some(first) = block.instructions().next() {
            if let Some((address, _)) = state.copying.get_key_value(&block.address()) {
                first.on_execution(on_copy, true, *address as usize);
            }
        }
    });
    for instruction in block.instructions() {
        let bytes = instruction.bytes();
        if bytes.len() == MARK_LENGTH && is_mark(bytes) {
            let begins = bytes.get(3) == Some(&b'1');
            instruction.on_execution(on_mark, false, usize::from(begins));
        }
    }
}

/// Every byte but the one that says which mark it is, and the last one.
fn is_mark(bytes: &[u8]) -> bool {
    let same = |(at, (one, other)): (usize, (&u8, &u8))| at == 3 || one == other;
    bytes.iter().zip(&MARK).enumerate().all(same) && bytes.last() == Some(&b'N')
}

extern "C" fn on_mark(_vcpu: c_uint, begins: *mut c_void) {
    let outcome = with(|state| match begins.is_null() {
        false => {
            state.begin();
            Ok(())
        }
        true => state.end(),
    });
    if let Err(error) = outcome {
        eprintln!("ntcount: {error}");
    }
}

extern "C" fn on_copy(_vcpu: c_uint, address: *mut c_void) {
    with(|state| {
        if !state.is_counting {
            return;
        }
        if let Some(copying) = state.copying.get_mut(&(address as usize as u64)) {
            let bytes = api::register(&copying.register).unwrap_or(0);
            if bytes >= PACKET {
                copying.calls += 1;
                copying.bytes += bytes;
            }
        }
    });
}

extern "C" fn on_end(_id: u64, _data: *mut c_void) {
    with(|state| state.out = None);
}
