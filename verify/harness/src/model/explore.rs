//! Explores a model to its end: every order of its steps, by `stateright`, and then once more to see that every run
//! ends.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model, Property};

/// A protocol whose faults can be injected.
pub trait Protocol: Model<State: Step, Action: Step> + Sized + Send + Sync + 'static {
    /// A fault of the protocol.
    type Bug: Copy + Debug + 'static;
    /// What it models.
    const NAME: &'static str;
    /// Every fault, with the property that must be found violated.
    const BUGS: &'static [(Self::Bug, &'static str)];

    /// The model in which this fault is most easily found.
    fn with_bug(bug: Self::Bug) -> Self;
}

/// What states and actions must be able to do.
pub trait Step: Clone + Debug + Hash + PartialEq + Send + Sync + 'static {}
impl<T: Clone + Debug + Hash + PartialEq + Send + Sync + 'static> Step for T {}

/// What came of a model.
#[derive(Default)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps of the longest run; 0 if that was not looked at.
    pub longest: usize,
    /// What was found wrong.
    pub findings: Vec<String>,
}

/// Explores a model in all its orders. `and_ends`: looks whether every run comes to an end, too.
pub fn explore<M: Protocol>(model: M, what: &str, and_ends: bool) -> Explored {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut explored = Explored::default();
    if and_ends {
        match ends(&model) {
            Ok((states, longest)) => (explored.states, explored.longest) = (states, longest),
            Err(run) => explored.findings.push(format!("{} ({what}) has a run without end:\n{run}", M::NAME)),
        }
    }
    let properties: Vec<Property<M>> = model.properties();
    let checker = model.checker().threads(threads).spawn_bfs().join();
    let states = checker.unique_state_count();
    if explored.longest > 0 && explored.states != states {
        explored.findings.push(format!(
            "{} ({what}): one search sees {states} states, the other {}",
            M::NAME,
            explored.states
        ));
    }
    explored.states = states;
    let mut discoveries = checker.discoveries();
    for property in properties {
        match (property.expectation.discovery_is_failure(), discoveries.remove(property.name)) {
            (true, Some(path)) => {
                let last = format!("{:?}", path.last_state());
                let run = run_of(path.into_actions());
                explored.findings.push(format!("{} ({what}): not \"{}\":\n{run}{last}", M::NAME, property.name));
            }
            (false, None) => {
                explored.findings.push(format!("{} ({what}): never \"{}\"", M::NAME, property.name));
            }
            _ => {}
        }
    }
    explored
}

/// Injects each fault, one at a time; how many were found, and what of those that were not.
pub fn inject_all<M: Protocol>() -> (usize, Vec<String>) {
    let mut findings = Vec::new();
    for (bug, expected) in M::BUGS {
        if let Err(why) = inject::<M>(*bug, expected) {
            findings.push(why);
        }
    }
    (M::BUGS.len(), findings)
}

/// Injects one fault, which must be found, and by the property expected. Returns the steps of the run that was found.
pub fn inject<M: Protocol>(bug: M::Bug, expected: &str) -> Result<usize, String> {
    let model = M::with_bug(bug);
    let wanted = model.properties().into_iter().map(|property| property.name).find(|&name| name == expected);
    let wanted = wanted.unwrap_or_else(|| panic!("{} has no property \"{expected}\"", M::NAME));
    // Depth first: the states in which nothing goes on lie at the ends of runs.
    let checker = model.checker().finish_when(HasDiscoveries::AnyOf([wanted].into())).spawn_dfs().join();
    let mut found = checker.discoveries();
    match found.remove(wanted) {
        Some(path) => Ok(path.into_actions().len()),
        None => Err(format!(
            "{}: the injected {bug:?} does not violate \"{expected}\" but {:?}",
            M::NAME,
            found.into_keys().collect::<Vec<_>>()
        )),
    }
}

fn run_of(actions: Vec<impl Debug>) -> String {
    actions.iter().enumerate().map(|(step, action)| format!("  {:>3}  {action:?}\n", step + 1)).collect()
}

/// A state on the way, and what can follow it.
struct Frame<M: Model> {
    key: u64,
    state: M::State,
    actions: Vec<M::Action>,
    taken: Option<M::Action>,
    longest: usize,
}

/// Whether every run ends: states and steps of the longest run, or a run that comes back to where it was. Depth first,
/// with the states of the present run marked.
fn ends<M: Protocol>(model: &M) -> Result<(usize, usize), String> {
    // The steps of the longest run from there; none while it is on the way.
    let mut known: HashMap<u64, Option<usize>> = HashMap::new();
    let frame = |state: M::State, key| {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        Frame::<M> { key, state, actions, taken: None, longest: 0 }
    };
    let mut longest = 0;
    for state in model.init_states() {
        let key = hash(&state);
        if known.insert(key, None).is_some() {
            continue;
        }
        let mut way = vec![frame(state, key)];
        while let Some(top) = way.last_mut() {
            let Some(action) = top.actions.pop() else {
                let done = way.pop().expect("it was there");
                known.insert(done.key, Some(done.longest));
                longest = longest.max(done.longest);
                if let Some(before) = way.last_mut() {
                    before.longest = before.longest.max(done.longest + 1);
                }
                continue;
            };
            let Some(next) = model.next_state(&top.state, action.clone()) else { continue };
            top.taken = Some(action);
            let key = hash(&next);
            match known.get(&key) {
                Some(Some(further)) => top.longest = top.longest.max(further + 1),
                Some(None) => return Err(run_of(way.into_iter().filter_map(|frame| frame.taken).collect())),
                None => {
                    known.insert(key, None);
                    way.push(frame(next, key));
                }
            }
        }
    }
    Ok((known.len(), longest))
}

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
