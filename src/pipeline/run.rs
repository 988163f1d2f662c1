//! Runs the stages of a plan that are not done, in their order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use crate::files;
use crate::pipeline::content::Contents;
use crate::pipeline::record::{Key, Reason, Record};
use crate::pipeline::run_error::RunError;
use crate::pipeline::stage::{Action, Stage, StageName, Word, shell};
use crate::pipeline::stages::Stages;
use crate::pipeline::summary;
use crate::pipeline::work_dir::WorkDir;

/// Which stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Run this one and all behind it even where nothing changed.
    pub from: Option<StageName>,
    /// Stop after this one.
    pub until: Option<StageName>,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Exit code; `None` where it was killed.
    pub code: Option<i32>,
    /// What it printed, where that was to be kept.
    pub printed: Vec<u8>,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The search is tried with `--dry-run` before stages that take long.
    Rehearses {
        /// Its words.
        words: &'a [Word],
    },
    /// A stage stands as it is.
    Unchanged {
        /// Number of the stage, from 1, and of how many.
        number: (usize, usize),
        /// The stage.
        stage: &'a Stage,
        /// Its record.
        record: &'a Record,
    },
    /// A stage begins.
    Begins {
        /// Number of the stage, from 1, and of how many.
        number: (usize, usize),
        /// The stage.
        stage: &'a Stage,
        /// Why.
        reason: &'a Reason,
        /// Seconds that this stage and all behind it took last time, if all ran then.
        at_most: Option<f64>,
    },
    /// A stage is done.
    Done {
        /// Number of the stage, from 1, and of how many.
        number: (usize, usize),
        /// The stage.
        stage: &'a Stage,
        /// Why it ran.
        reason: &'a Reason,
        /// Its record.
        record: &'a Record,
        /// Seconds since the run began.
        elapsed: f64,
    },
}

/// Starts commands, and hears what happens.
pub trait Driver {
    /// Runs this tool with these words, and gives back what it printed on standard output if that is to be kept.
    ///
    /// # Errors
    /// A command that could not be started.
    fn command(&mut self, words: &[Word], keep: bool) -> io::Result<Ended>;
    /// Something happens.
    fn hear(&mut self, event: Event<'_>);
}

/// Runs the selected stages of a plan that are not done.
///
/// # Errors
/// [`RunError`]; what was done before stays done.
pub fn run(
    stages: &Stages,
    selection: Selection,
    work: &WorkDir,
    driver: &mut dyn Driver,
) -> Result<(), RunError> {
    let selected = selected(&stages.all, selection)?;
    let mut run = Run { stages, selected, selection, work, contents: Contents::default(), rehearsed: false };
    let start = Instant::now();
    for index in 0..run.selected.len() {
        run.stage(index, start, driver)?;
    }
    Ok(())
}

/// The stages up to the last that is asked for.
fn selected(all: &[Stage], selection: Selection) -> Result<&[Stage], RunError> {
    for name in [selection.from, selection.until].into_iter().flatten() {
        if all.iter().all(|stage| stage.name != name) {
            return Err(RunError::NoStage(name));
        }
    }
    if let (Some(from), Some(until)) = (selection.from, selection.until)
        && from > until
    {
        return Err(RunError::Nothing { from, until });
    }
    let count =
        all.iter().take_while(|stage| selection.until.is_none_or(|until| stage.name <= until)).count();
    Ok(all.get(..count).unwrap_or_default())
}

struct Run<'a> {
    stages: &'a Stages,
    selected: &'a [Stage],
    selection: Selection,
    work: &'a WorkDir,
    contents: Contents,
    rehearsed: bool,
}

impl Run<'_> {
    fn stage(&mut self, index: usize, start: Instant, driver: &mut dyn Driver) -> Result<(), RunError> {
        let Some(stage) = self.selected.get(index) else { return Ok(()) };
        let number = (index + 1, self.selected.len());
        let key = Key::of(stage, &mut self.contents)
            .map_err(|error| RunError::Input { stage: stage.name, error })?;
        let record = Record::read(&self.work.stages(), stage.name);
        let outdated = match &record {
            None => Some(Reason::New),
            Some(record) => record.outdated(&key, stage, &mut self.contents),
        };
        let taken_up = outdated == Some(Reason::Interrupted);
        let forced = self.selection.from.is_some_and(|from| stage.name >= from);
        let reason = match (outdated, record.as_ref()) {
            (None, Some(record)) if !forced => {
                driver.hear(Event::Unchanged { number, stage, record });
                return Ok(());
            }
            (reason, _) => reason.unwrap_or(Reason::Asked),
        };
        self.rehearse(stage, driver)?;
        self.clear(stage, taken_up)?;
        let seconds = record.and_then(|record| record.seconds);
        let mut record =
            Record { stage: stage.name.to_string(), key, outputs: [].into(), finished: None, seconds };
        self.write(&record, stage)?;
        driver.hear(Event::Begins { number, stage, reason: &reason, at_most: self.at_most(index) });
        let began = Instant::now();
        self.act(stage, driver)?;
        for output in &stage.outputs {
            let hash = self.contents.of(output);
            let hash = hash.map_err(|error| RunError::Output { stage: stage.name, error })?;
            record.outputs.insert(output.place().typed.clone(), hash);
        }
        record.seconds = Some(began.elapsed().as_secs_f64());
        record.finished = Some(now());
        self.write(&record, stage)?;
        let elapsed = start.elapsed().as_secs_f64();
        driver.hear(Event::Done { number, stage, reason: &reason, record: &record, elapsed });
        Ok(())
    }

    /// Before stages that take long: a search that would be refused is refused now.
    fn rehearse(&mut self, stage: &Stage, driver: &mut dyn Driver) -> Result<(), RunError> {
        let searches = self.selected.iter().any(|stage| stage.name == StageName::Search);
        if self.rehearsed || stage.name >= StageName::Search || !searches {
            return Ok(());
        }
        self.rehearsed = true;
        driver.hear(Event::Rehearses { words: &self.stages.rehearsal });
        let ended = driver.command(&self.stages.rehearsal, true).map_err(failed(stage, self.work.path()))?;
        match ended.code {
            Some(0) => Ok(()),
            code => Err(RunError::Rehearsal { code }),
        }
    }

    /// Removes what the stage is about to write. `taken_up`: what an interrupted run of the same command left stays.
    fn clear(&mut self, stage: &Stage, taken_up: bool) -> Result<(), RunError> {
        stage.outputs.iter().for_each(|output| self.contents.forget(output));
        let unfinished = stage.unfinished.iter().filter(|_| !taken_up);
        for path in stage.written.iter().chain(unfinished) {
            remove(path).map_err(failed(stage, path))?;
        }
        Ok(())
    }

    fn act(&self, stage: &Stage, driver: &mut dyn Driver) -> Result<(), RunError> {
        match &stage.action {
            Action::Summary => {
                let commands: Vec<String> = self.stages.all.iter().map(shell).collect();
                Ok(summary::write(self.work.path(), &commands)?)
            }
            Action::Command(kept) => {
                let ended = driver.command(&stage.words, kept.is_some());
                let ended = ended.map_err(failed(stage, self.work.path()))?;
                if ended.code != Some(0) {
                    return Err(RunError::Stage { stage: stage.name, code: ended.code });
                }
                match kept {
                    Some(place) => files::write_atomically(&place.path, &ended.printed)
                        .map_err(failed(stage, &place.path)),
                    None => Ok(()),
                }
            }
        }
    }

    fn write(&self, record: &Record, stage: &Stage) -> Result<(), RunError> {
        record.write(&self.work.stages()).map_err(failed(stage, &self.work.stages()))
    }

    /// Seconds that a stage and all behind it took last time.
    fn at_most(&self, index: usize) -> Option<f64> {
        let rest = self.selected.get(index..).unwrap_or_default();
        rest.iter().map(|stage| Record::read(&self.work.stages(), stage.name)?.seconds).sum()
    }
}

fn failed(stage: &Stage, path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let (stage, path) = (stage.name, PathBuf::from(path));
    move |error| RunError::Io { stage, path, error }
}

/// Removes a file or folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Now, to the second, such as `2026-11-24T19:32:05Z`.
fn now() -> String {
    let seconds = Timestamp::now().as_second();
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |now| now.to_string())
}
