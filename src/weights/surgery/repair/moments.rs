//! Sums over tokens that a linear fit needs.

use crate::compute::linear::Shape;
use crate::compute::product;
use crate::compute::storage::SizeError;

/// Of the inputs `x` of a linear layer: tokens, sum, Gram matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Numbers per token.
    pub width: usize,
    /// Tokens.
    pub tokens: f64,
    /// Sum of `x`.
    pub sum: Vec<f64>,
    /// Sum of `x x^T`, row-major.
    pub gram: Vec<f32>,
}

/// Of what its outputs `t` should be, with the inputs: sum of `t`, sum of `t x^T`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// Numbers per token.
    pub width: usize,
    /// Sum of `t`.
    pub sum: Vec<f64>,
    /// Sum of `t x^T`, `[width, inputs]`.
    pub cross: Vec<f32>,
}

fn row_of(row: &[f32], kept: &[u32]) -> Vec<f32> {
    kept.iter().filter_map(|k| row.get(*k as usize).copied()).collect()
}

impl Inputs {
    /// No tokens yet.
    pub fn new(width: usize) -> Self {
        Self { width, tokens: 0.0, sum: vec![0.0; width], gram: vec![0.0; width * width] }
    }

    /// These and further sums of inputs of the same width.
    pub fn with(&self, more: &Self) -> Self {
        let sum = self.sum.iter().zip(&more.sum).map(|(a, b)| a + b).collect();
        let gram = self.gram.iter().zip(&more.gram).map(|(a, b)| a + b).collect();
        Self { width: self.width, tokens: self.tokens + more.tokens, sum, gram }
    }

    /// Of some of the inputs; those that are not there are left out.
    pub fn select(&self, kept: &[u32]) -> Self {
        let picked = |row: &[f32]| row_of(row, kept);
        let rows = kept.iter().filter_map(|k| self.gram.chunks_exact(self.width.max(1)).nth(*k as usize));
        Self {
            width: kept.len(),
            tokens: self.tokens,
            sum: kept.iter().filter_map(|k| self.sum.get(*k as usize).copied()).collect(),
            gram: rows.flat_map(picked).collect(),
        }
    }

    /// Adds tokens `[tokens, width]`.
    ///
    /// # Errors
    /// A slice of another size.
    pub fn add(&mut self, x: &[f32]) -> Result<(), SizeError> {
        self.tokens += (x.len() / self.width.max(1)) as f64;
        add_rows(&mut self.sum, x);
        product::gram(x, self.width, &mut self.gram)
    }
}

impl Targets {
    /// No tokens yet.
    pub fn new(width: usize, inputs: usize) -> Self {
        Self { width, sum: vec![0.0; width], cross: vec![0.0; width * inputs] }
    }

    /// Adds tokens: targets `[tokens, width]` and inputs `[tokens, inputs]`.
    ///
    /// # Errors
    /// A slice of another size.
    pub fn add(&mut self, t: &[f32], x: &[f32], inputs: usize) -> Result<(), SizeError> {
        add_rows(&mut self.sum, t);
        product::cross(t, self.width, x, inputs, &mut self.cross)
    }

    /// These and further sums of the same targets.
    pub fn with(&self, more: &Self) -> Self {
        let sum = self.sum.iter().zip(&more.sum).map(|(a, b)| a + b).collect();
        let cross = self.cross.iter().zip(&more.cross).map(|(a, b)| a + b).collect();
        Self { width: self.width, sum, cross }
    }

    /// The same targets with some of their `inputs` inputs.
    pub fn select(&self, inputs: usize, kept: &[u32]) -> Self {
        let rows = self.cross.chunks_exact(inputs.max(1));
        Self {
            width: self.width,
            sum: self.sum.clone(),
            cross: rows.flat_map(|row| row_of(row, kept)).collect(),
        }
    }

    /// Puts further outputs behind these.
    pub fn append(&mut self, mut more: Targets) {
        self.width += more.width;
        self.sum.append(&mut more.sum);
        self.cross.append(&mut more.cross);
    }

    /// Targets `W t + b` from those of `t`: `weight` is `[outputs, width]`, row-major.
    ///
    /// # Errors
    /// A slice of another size.
    pub fn through(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
        inputs: &Inputs,
    ) -> Result<Targets, SizeError> {
        let outputs = weight.len() / self.width.max(1);
        let mut turned = vec![0.0; self.cross.len()];
        for (row, values) in self.cross.chunks_exact(inputs.width.max(1)).enumerate() {
            for (column, value) in values.iter().enumerate() {
                if let Some(to) = turned.get_mut(column * self.width + row) {
                    *to = *value;
                }
            }
        }
        let mut through = Targets::new(outputs, inputs.width);
        let shape = Shape { m: outputs, n: inputs.width, k: self.width };
        product::product(weight, &turned, None, &mut through.cross, shape)?;
        for (output, row) in weight.chunks_exact(self.width.max(1)).enumerate() {
            let b = bias.and_then(|bias| bias.get(output)).map_or(0.0, |b| f64::from(*b));
            let dot: f64 = row.iter().zip(&self.sum).map(|(w, s)| f64::from(*w) * s).sum();
            if let Some(sum) = through.sum.get_mut(output) {
                *sum = dot + b * inputs.tokens;
            }
            if b != 0.0 {
                let cross = through.cross.iter_mut().skip(output * inputs.width);
                cross.zip(&inputs.sum).for_each(|(c, s)| *c += (b * s) as f32);
            }
        }
        Ok(through)
    }
}

fn add_rows(sums: &mut [f64], rows: &[f32]) {
    for row in rows.chunks_exact(sums.len().max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
}
