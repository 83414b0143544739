//! Kernels that lack something, played by seccomp(2): the calls fail as they do there.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::surrounding::Surrounding;

/// A call that is refused if these arguments are so.
type Refused = (i64, Vec<(u8, SeccompCmpOp, u64)>);

/// The filters of a surrounding.
pub fn filters(one: Surrounding) -> Vec<BpfProgram> {
    let is = |argument: u8, value: u64| (argument, SeccompCmpOp::Eq, value);
    let has = |argument: u8, bit: u64| (argument, SeccompCmpOp::MaskedEq(bit), bit);
    // SO_PEERPIDFD and SO_PASSRIGHTS. The runtime of Rust asks for pidfds of its own, with flags.
    let peer_pidfd = || filter(vec![(libc::SYS_getsockopt, vec![is(2, 77)])], libc::ENOPROTOOPT);
    let pidfd = || filter(vec![(libc::SYS_pidfd_open, vec![])], libc::ENOSYS);
    let lacks = |call, errno| vec![filter(vec![(call, vec![])], errno)];
    match one {
        Surrounding::NoPidfd => vec![peer_pidfd(), pidfd()],
        Surrounding::OldKernel => {
            let seal = vec![is(1, libc::F_ADD_SEALS as u64), has(2, libc::F_SEAL_FUTURE_WRITE as u64)];
            let invalid = vec![
                (libc::SYS_memfd_create, vec![has(1, libc::MFD_NOEXEC_SEAL.into())]),
                (libc::SYS_fcntl, seal),
                (libc::SYS_madvise, vec![is(2, libc::MADV_POPULATE_WRITE as u64)]),
            ];
            let pass_rights = filter(vec![(libc::SYS_setsockopt, vec![is(2, 83)])], libc::ENOPROTOOPT);
            vec![filter(invalid, libc::EINVAL), pass_rights, peer_pidfd(), pidfd()]
        }
        Surrounding::NoInotify => lacks(libc::SYS_inotify_init1, libc::ENOSYS),
        Surrounding::NoMemfd => lacks(libc::SYS_memfd_create, libc::EPERM),
        Surrounding::NoEventfd => lacks(libc::SYS_eventfd2, libc::ENOSYS),
        Surrounding::NoLocks => {
            let locks = [libc::F_OFD_SETLK, libc::F_OFD_SETLKW, libc::F_OFD_GETLK];
            vec![filter(locks.map(|lock| (libc::SYS_fcntl, vec![is(1, lock as u64)])).to_vec(), libc::EINVAL)]
        }
        _ => Vec::new(),
    }
}

fn filter(refused: Vec<Refused>, errno: i32) -> BpfProgram {
    let mut rules = BTreeMap::<i64, Vec<SeccompRule>>::new();
    for (call, arguments) in refused {
        let condition = |(argument, operator, value)| {
            SeccompCondition::new(argument, Dword, operator, value).expect("a system call has six arguments")
        };
        let conditions: Vec<_> = arguments.into_iter().map(condition).collect();
        let rules = rules.entry(call).or_default();
        if !conditions.is_empty() {
            rules.push(SeccompRule::new(conditions).expect("a rule has a condition"));
        }
    }
    let machine = std::env::consts::ARCH.try_into().expect("a machine with seccomp");
    let (otherwise, then) = (SeccompAction::Allow, SeccompAction::Errno(errno as u32));
    let filter = SeccompFilter::new(rules, otherwise, then, machine).expect("two different actions");
    filter.try_into().expect("a short filter")
}

/// From now on this thread, and what it starts, is in that sandbox.
pub fn apply(filter: &BpfProgram) -> std::io::Result<()> {
    seccompiler::apply_filter(filter).map_err(|_| std::io::Error::from_raw_os_error(libc::EPERM))
}
