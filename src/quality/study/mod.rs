//! Shapes that are really tried: candidates, who was asked for which, what was found, and which to ask for next.
//!
//! A study is a file of JSON lines that only grows, so that many workers may append at once and nothing is lost when one
//! of them dies. Deliberately absent: opening the file, and how a shape is measured.

pub mod ask;
pub mod error;
pub mod estimator;
pub mod judge;
pub mod line;
pub mod validation;

use std::collections::BTreeMap;

use crate::quality::study::error::StudyError;
use crate::quality::study::estimator::Predicted;
use crate::quality::study::line::{Asked, Candidate, Header, Line, Told};

/// A study as its lines add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// What it belongs to.
    pub header: Header,
    /// Shapes that may be asked for, in the order of the file.
    pub candidates: Vec<Candidate>,
    /// What was found, by candidate; the last word counts.
    pub told: BTreeMap<String, Told>,
    /// Asked for and not told yet, in the order asked.
    pub pending: Vec<Asked>,
    /// What was predicted of candidates when they were asked for.
    pub predicted: BTreeMap<String, Predicted>,
}

impl Study {
    /// Reads the lines of a study. A last line that was cut off in the middle of being written is left out.
    ///
    /// # Errors
    /// A line that is none, with its number; another format; a candidate that is not there.
    pub fn read(text: &str) -> Result<Self, StudyError> {
        let whole = text.ends_with('\n');
        let count = text.lines().count();
        let mut header = None;
        let mut study: Option<Self> = None;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = index as u64 + 1;
            let parsed = match serde_json::from_str::<Line>(line) {
                Ok(parsed) => parsed,
                Err(_) if index + 1 == count && !whole => break,
                Err(error) => return Err(StudyError::Line { line: number, problem: error.to_string() }),
            };
            match (parsed, &mut study) {
                (Line::Study(first), None) => {
                    first.check()?;
                    header = Some(first.clone());
                    study = Some(Self {
                        header: first,
                        candidates: Vec::new(),
                        told: BTreeMap::new(),
                        pending: Vec::new(),
                        predicted: BTreeMap::new(),
                    });
                }
                (other, Some(study)) => study
                    .take(other)
                    .map_err(|error| StudyError::Line { line: number, problem: error.to_string() })?,
                (_, None) => break,
            }
        }
        match (header, study) {
            (Some(_), Some(study)) => Ok(study),
            _ => Err(StudyError::NoStudy),
        }
    }

    /// Takes one more line.
    ///
    /// # Errors
    /// A second header, a candidate twice or unknown, a number that is none.
    pub fn take(&mut self, line: Line) -> Result<(), StudyError> {
        match line {
            Line::Study(_) => return Err(StudyError::SecondHeader),
            Line::Candidate(candidate) => {
                candidate.check(&self.header)?;
                match self.candidates.iter_mut().find(|known| known.id == candidate.id) {
                    // Budgets changed, say.
                    Some(known) => *known = candidate,
                    None => self.candidates.push(candidate),
                }
            }
            Line::Asked(asked) => {
                self.known(&asked.id)?;
                if let (Some(mean), Some(deviation)) = (asked.predicted_nats, asked.deviation_nats) {
                    self.predicted.insert(asked.id.clone(), Predicted { mean, deviation });
                }
                if !self.told.contains_key(&asked.id) && self.pending.iter().all(|p| p.id != asked.id) {
                    self.pending.push(asked);
                }
            }
            Line::Told(told) => {
                self.known(&told.id)?;
                told.check()?;
                self.pending.retain(|asked| asked.id != told.id);
                self.told.insert(told.id.clone(), told);
            }
        }
        Ok(())
    }

    /// A candidate by its name.
    pub fn find(&self, id: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.id == id)
    }

    fn known(&self, id: &str) -> Result<(), StudyError> {
        match self.find(id) {
            Some(_) => Ok(()),
            None => Err(StudyError::unknown(id, self.candidates.iter().map(|c| c.id.as_str()))),
        }
    }

    /// Candidates that were measured, with what was found.
    pub fn tried(&self) -> Vec<(&Candidate, &Told)> {
        let with = |candidate: &Candidate| self.told.get(&candidate.id).filter(|told| told.loss().is_some());
        self.candidates
            .iter()
            .filter_map(|c| self.told.get(&c.id).and(with(c)).map(|told| (c, told)))
            .collect()
    }

    /// The tried candidate that lost least.
    pub fn best(&self) -> Option<(&Candidate, f64)> {
        let tried = self.tried().into_iter().filter_map(|(c, told)| Some((c, told.loss()?.mean)));
        tried.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

#[cfg(test)]
mod tests;
