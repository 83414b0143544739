//! Walks a thread of another process instruction by instruction, and notes each time it touches the memory that it
//! shares.
//!
//! Single steps of ptrace(2), so it needs no tool and no build of its own: what is walked is the very code that is in
//! use, as the compiler left it. A double fetch is often the compiler's (Xen's XSA-155 was), so the source alone does
//! not tell. What the kernel reads on a thread's behalf is not seen; the library hands it no pointer into a segment.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, bail};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, Register, UsedMemory};
use libc::user_regs_struct;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Where a window begins and where it ends, said by the thread that is walked. Only for one that is.
pub fn mark() {
    // SAFETY: a breakpoint changes nothing; the tracer swallows the signal.
    unsafe { std::arch::asm!("int3") };
}

/// One access to the segment.
#[derive(Clone, Debug)]
pub struct Access {
    /// The first byte.
    pub offset: usize,
    /// How many.
    pub len: usize,
    /// Whether they are read.
    pub is_load: bool,
    /// The instruction: where it stands in which file.
    pub place: String,
}

/// What happens in a window, for the one who plays the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many instructions have been walked.
    Step(u64),
    /// The thread is about to wait for its doorbell.
    Sleep,
}

/// A thread that is walked.
pub struct Tracer {
    thread: Pid,
    memory: File,
    decoded: HashMap<u64, Decoded>,
    segment: Option<Range<u64>>,
    /// Instructions walked so far.
    pub steps: u64,
}

/// What is to be known of an instruction before each of its executions.
struct Decoded {
    memory: Vec<UsedMemory>,
    is_system_call: bool,
    is_mark: bool,
}

impl Tracer {
    /// Takes hold of a process's first thread, which runs on until it says [`mark`]. It dies with this process.
    pub fn seize(process: u32) -> anyhow::Result<Tracer> {
        let thread = Pid::from_raw(process as i32);
        ptrace::seize(thread, ptrace::Options::PTRACE_O_EXITKILL).context("this process may not be traced")?;
        let memory = File::options().read(true).write(true).open(format!("/proc/{process}/mem"))?;
        Ok(Tracer { thread, memory, decoded: HashMap::new(), segment: None, steps: 0 })
    }

    /// Waits for the next mark, walks from there to the one after it, and lets the thread go on. `on_event` plays the
    /// other side.
    pub fn window(&mut self, mut on_event: impl FnMut(Event)) -> anyhow::Result<Vec<Access>> {
        self.stopped()?;
        self.find_segment()?;
        let mut accesses = Vec::new();
        let mut steps_here = 0;
        loop {
            let mut registers = ptrace::getregs(self.thread)?;
            let at = registers.rip;
            if !self.decoded.contains_key(&at) {
                let decoded = self.decode(at)?;
                self.decoded.insert(at, decoded);
            }
            let decoded = &self.decoded[&at];
            if decoded.is_mark {
                registers.rip += 1; // as if it had been executed
                ptrace::setregs(self.thread, registers)?;
                ptrace::cont(self.thread, None)?;
                return Ok(accesses);
            }
            if let Some(segment) = &self.segment {
                self.note(&registers, segment, &decoded.memory, &mut accesses)?;
            }
            let is_system_call = decoded.is_system_call;
            if is_system_call && is_sleep(&registers) {
                on_event(Event::Sleep);
            }
            ptrace::step(self.thread, None)?;
            self.stopped()?;
            if is_system_call && matches!(registers.rax as i64, libc::SYS_mmap | libc::SYS_munmap) {
                self.find_segment()?;
            }
            self.steps += 1;
            steps_here += 1;
            on_event(Event::Step(steps_here));
        }
    }

    /// Lets the thread run from the next mark to the one after it, unobserved.
    pub fn pass_over(&mut self) -> anyhow::Result<()> {
        for _ in 0..2 {
            self.stopped()?;
            self.find_segment()?;
            ptrace::cont(self.thread, None)?;
        }
        Ok(())
    }

    /// Reads a word of the segment.
    pub fn peek(&self, offset: usize) -> anyhow::Result<u64> {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, self.segment_start()? + offset as u64)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Writes a word of the segment, as a hostile peer would.
    pub fn poke(&self, offset: usize, word: u64) -> anyhow::Result<()> {
        Ok(self.memory.write_all_at(&word.to_ne_bytes(), self.segment_start()? + offset as u64)?)
    }

    fn segment_start(&self) -> anyhow::Result<u64> {
        Ok(self.segment.as_ref().context("the victim has no segment yet")?.start)
    }

    /// Waits until the thread stands still.
    fn stopped(&self) -> anyhow::Result<()> {
        loop {
            match waitpid(self.thread, Some(WaitPidFlag::__WALL))? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => return Ok(()),
                WaitStatus::Stopped(_, other) => ptrace::step(self.thread, other)?,
                other => bail!("the victim ended while it was walked: {other:?}"),
            }
        }
    }

    /// Where the segment is mapped now, if it is.
    fn find_segment(&mut self) -> anyhow::Result<()> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.thread))?;
        let mut lines = maps.lines().filter(|line| line.contains("memfd:wigwag"));
        self.segment = lines.next_back().and_then(range_of);
        if lines.next().is_some() {
            // A window has one session: otherwise one's words would be taken for the other's.
            bail!("the victim has more than one segment:\n{maps}");
        }
        Ok(())
    }

    fn decode(&self, at: u64) -> anyhow::Result<Decoded> {
        let mut bytes = [0; 16];
        // Less than all of it where the mapping ends.
        let count = self.memory.read_at(&mut bytes, at).with_context(|| format!("no instruction at {at:#x}"))?;
        let mut instruction = Instruction::default();
        Decoder::with_ip(64, &bytes[..count], at, DecoderOptions::NONE).decode_out(&mut instruction);
        if instruction.is_invalid() {
            bail!("an unknown instruction: {bytes:02x?}");
        }
        let mut factory = InstructionInfoFactory::new();
        let memory = factory.info(&instruction).used_memory().iter();
        Ok(Decoded {
            memory: memory.filter(|memory| memory.access() != OpAccess::NoMemAccess).copied().collect(),
            is_system_call: instruction.code() == Code::Syscall,
            is_mark: instruction.code() == Code::Int3,
        })
    }

    fn note(
        &self,
        registers: &user_regs_struct,
        segment: &Range<u64>,
        used: &[UsedMemory],
        accesses: &mut Vec<Access>,
    ) -> anyhow::Result<()> {
        for memory in used {
            let address = memory.virtual_address(0, |register, _, _| value(registers, register));
            let Some(address) = address else { bail!("where does the instruction at {:#x} look?", registers.rip) };
            let len = memory.memory_size().size() as u64;
            if address + len <= segment.start || address >= segment.end {
                continue;
            }
            let is_load = matches!(
                memory.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            let place = self.place(registers.rip)?;
            accesses.push(Access { offset: (address - segment.start) as usize, len: len as usize, is_load, place });
        }
        Ok(())
    }

    /// An address as `addr2line` takes it.
    fn place(&self, at: u64) -> anyhow::Result<String> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.thread))?;
        let line = maps.lines().find(|line| range_of(line).is_some_and(|range| range.contains(&at)));
        let Some(file) = line.and_then(|line| line.split_whitespace().nth(5)) else { return Ok(format!("{at:#x}")) };
        let first = maps.lines().find(|line| line.ends_with(file)).and_then(range_of).context("it was there")?;
        let name = file.rsplit('/').next().unwrap_or(file);
        Ok(format!("{name}+{:#x}", at - first.start))
    }
}

/// The addresses of a line of /proc/PID/maps.
fn range_of(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

/// Whether the system call that comes next waits in an epoll, and does not only look.
fn is_sleep(registers: &user_regs_struct) -> bool {
    match registers.rax as i64 {
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => registers.r10 as i32 != 0,
        // Its time is a structure: whether that is zero is of no interest to those who listen.
        libc::SYS_epoll_pwait2 => true,
        _ => false,
    }
}

/// A register's value before the instruction.
fn value(registers: &user_regs_struct, register: Register) -> Option<u64> {
    let full = match register.full_register() {
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        Register::FS => registers.fs_base,
        Register::GS => registers.gs_base,
        Register::ES | Register::CS | Register::SS | Register::DS => 0,
        _ => return None,
    };
    Some(if register.size() == 4 { full & 0xffff_ffff } else { full })
}
