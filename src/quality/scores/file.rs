//! Scores as a CSV file: a line of JSON that says what they belong to, then one row per change.

use serde::{Deserialize, Serialize};

use crate::model::architecture::LayerShape;
use crate::quality::scores::error::ScoresError;
use crate::quality::scores::{Change, Header, Measured, Score, Scores, TextRecord};

/// Version of the format.
pub const FORMAT: u32 = 1;

/// What the first line begins with.
const OPENING: &str = "# archplan scores ";

/// One row; cells that a kind of change does not have are empty.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    kind: String,
    layer: Option<u64>,
    count: Option<u64>,
    ffn: Option<u64>,
    q_heads: Option<u64>,
    kv_heads: Option<u64>,
    hidden: Option<u64>,
    delta_nll_nats: f64,
    delta_nll_se: Option<f64>,
    kl_nats: f64,
    kl_se: Option<f64>,
    hidden_distance: Option<f64>,
    hidden_distance_se: Option<f64>,
}

impl Row {
    fn of(score: &Score) -> Self {
        let mut row = Self {
            kind: score.change.kind().into(),
            layer: None,
            count: None,
            ffn: None,
            q_heads: None,
            kv_heads: None,
            hidden: None,
            delta_nll_nats: score.delta_nll.mean,
            delta_nll_se: score.delta_nll.standard_error,
            kl_nats: score.kl.mean,
            kl_se: score.kl.standard_error,
            hidden_distance: score.hidden_distance.map(|of| of.mean),
            hidden_distance_se: score.hidden_distance.and_then(|of| of.standard_error),
        };
        match score.change {
            Change::Layer { layer, shape } => {
                row.layer = Some(layer);
                (row.ffn, row.q_heads, row.kv_heads) =
                    (Some(shape.ffn), Some(shape.q_heads), Some(shape.kv_heads));
            }
            Change::Drop { first, count } => (row.layer, row.count) = (Some(first), Some(count)),
            Change::Hidden { hidden } => row.hidden = Some(hidden),
        }
        row
    }

    fn score(self) -> Result<Score, String> {
        let cell =
            |name: &str, value: Option<u64>| value.ok_or(format!("{name} is empty: expected a number"));
        let change = match self.kind.as_str() {
            "layer" => Change::Layer {
                layer: cell("layer", self.layer)?,
                shape: LayerShape {
                    ffn: cell("ffn", self.ffn)?,
                    q_heads: cell("q_heads", self.q_heads)?,
                    kv_heads: cell("kv_heads", self.kv_heads)?,
                },
            },
            "drop" => {
                Change::Drop { first: cell("layer", self.layer)?, count: cell("count", self.count)?.max(1) }
            }
            "hidden" => Change::Hidden { hidden: cell("hidden", self.hidden)? },
            other => return Err(format!("kind `{other}`: expected layer, drop or hidden")),
        };
        let measured = |name: &str, mean: f64, standard_error: Option<f64>| {
            let sound = mean.is_finite() && standard_error.is_none_or(|e| e.is_finite() && e >= 0.0);
            match sound {
                true => Ok(Measured { mean, standard_error }),
                false => Err(format!(
                    "{name} is {mean}, its standard error {standard_error:?}: expected finite numbers"
                )),
            }
        };
        Ok(Score {
            change,
            delta_nll: measured("delta_nll_nats", self.delta_nll_nats, self.delta_nll_se)?,
            kl: measured("kl_nats", self.kl_nats, self.kl_se)?,
            hidden_distance: self
                .hidden_distance
                .map(|mean| measured("hidden_distance", mean, self.hidden_distance_se))
                .transpose()?,
        })
    }
}

impl Scores {
    /// The file's text.
    ///
    /// # Errors
    /// A number that CSV or JSON cannot say.
    pub fn to_csv(&self) -> Result<String, ScoresError> {
        let failed = |problem: String| ScoresError::File { line: 0, problem };
        let header = serde_json::to_string(&self.header).map_err(|e| failed(e.to_string()))?;
        let mut writer = csv::Writer::from_writer(format!("{OPENING}{header}\n").into_bytes());
        for score in &self.rows {
            writer.serialize(Row::of(score)).map_err(|e| failed(e.to_string()))?;
        }
        let bytes = writer.into_inner().map_err(|e| failed(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| failed(e.to_string()))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// A file that is no set of scores, with the line; another format; a change twice.
    pub fn from_csv(text: &str) -> Result<Self, ScoresError> {
        let wrong = |line: u64, problem: String| ScoresError::File { line, problem };
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let opening = format!("expected a file of `archplan score`, which begins with `{OPENING}`");
        let json = first.trim_end().strip_prefix(OPENING).ok_or_else(|| wrong(1, opening))?;
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_str(json).map_err(|e| wrong(1, e.to_string()))?;
        if version.format != FORMAT {
            return Err(ScoresError::Format { found: version.format, expected: FORMAT });
        }
        let header: Header = serde_json::from_str(json).map_err(|e| wrong(1, e.to_string()))?;
        header.architecture.validate().map_err(|e| wrong(1, e.to_string()))?;
        let mut reader = csv::Reader::from_reader(rest.as_bytes());
        let mut rows: Vec<Score> = Vec::new();
        for (at, row) in reader.deserialize::<Row>().enumerate() {
            let line = at as u64 + 3;
            let score = row.map_err(|e| wrong(line, e.to_string()))?.score().map_err(|e| wrong(line, e))?;
            if let Some(problem) = beyond(&score.change, &header) {
                return Err(wrong(line, problem));
            }
            if rows.iter().any(|row| row.change == score.change) {
                return Err(wrong(
                    line,
                    format!("{} is there twice: expected each change once", score.change),
                ));
            }
            rows.push(score);
        }
        rows.sort_by_key(|row| row.change);
        Ok(Self { header, rows })
    }

    /// Adds parts of one run.
    ///
    /// # Errors
    /// Parts of different runs, a part that is there twice.
    pub fn merge(first: Scores, others: Vec<Scores>) -> Result<Self, ScoresError> {
        let mut sum = first;
        for (index, part) in others.into_iter().enumerate() {
            if let Some(what) = sum.header.difference(&part.header) {
                return Err(ScoresError::OtherRun { part: index + 2, what });
            }
            if let Some(&twice) = part.header.parts.iter().find(|p| sum.header.parts.contains(p)) {
                return Err(ScoresError::Twice { part: twice });
            }
            sum.header.parts.extend(part.header.parts);
            sum.rows.extend(part.rows);
        }
        sum.header.parts.sort_unstable();
        sum.rows.sort_by_key(|row| row.change);
        Ok(sum)
    }

    /// Whether every change is here.
    ///
    /// # Errors
    /// [`ScoresError::Incomplete`].
    pub fn check_complete(&self) -> Result<(), ScoresError> {
        let Header { changes, shards, ref parts, .. } = self.header;
        match self.rows.len() as u64 == changes {
            true => Ok(()),
            false => Err(ScoresError::Incomplete {
                found: self.rows.len() as u64,
                expected: changes,
                parts: parts.clone(),
                shards,
            }),
        }
    }
}

impl Header {
    /// What makes two headers those of different runs.
    pub fn difference(&self, other: &Header) -> Option<&'static str> {
        let text = |a: &TextRecord, b: &TextRecord| {
            (&a.sha256, a.samples, a.seq_len) == (&b.sha256, b.samples, b.seq_len)
        };
        let repair = match (&self.repair_data, &other.repair_data) {
            (Some(a), Some(b)) => text(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        [
            ("version", self.made_by == other.made_by),
            ("model", self.fingerprint == other.fingerprint),
            ("statistics", self.importance_sha256 == other.importance_sha256),
            ("text", text(&self.data, &other.data)),
            ("text of the repair", repair),
            ("surgery", self.surgery == other.surgery),
            ("number of parts", self.shards == other.shards),
            ("number of changes", self.changes == other.changes),
        ]
        .into_iter()
        .find_map(|(what, same)| (!same).then_some(what))
    }
}

/// Why a change cannot be one of this parent.
fn beyond(change: &Change, header: &Header) -> Option<String> {
    let parent = &header.architecture;
    let depth = parent.depth();
    match *change {
        Change::Layer { layer, .. } if layer >= depth => {
            Some(format!("layer {layer}: the parent has {depth}, from 0"))
        }
        Change::Layer { layer, shape } => {
            let own = parent.layer_shapes().nth(layer as usize).unwrap_or_default();
            let larger = shape.ffn > own.ffn || shape.q_heads > own.q_heads || shape.kv_heads > own.kv_heads;
            larger.then(|| format!("{change}: larger than the parent's layer"))
        }
        Change::Drop { first, count } => match first.checked_add(count) {
            Some(end) if end <= depth && count < depth => None,
            _ => Some(format!("{count} layers from {first} on: the parent has {depth}, and one must stay")),
        },
        Change::Hidden { hidden } => (hidden == 0 || hidden > parent.hidden)
            .then(|| format!("{change}: expected 1 to {}", parent.hidden)),
    }
}
