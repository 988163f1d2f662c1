//! From a picture to SVG text or a PNG file, with the embedded font.

use std::path::Path;
use std::sync::OnceLock;

use plotters::prelude::*;
use plotters::style::register_font;

use crate::report::chart::draw::{self, Canvas, DrawnSvg, SIZE, Scale};
use crate::report::chart::picture::Picture;

/// The PNG is drawn this many times larger and averaged down, which smooths its edges.
const OVERSAMPLE: u32 = 3;

/// The picture could not be drawn or written.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The embedded font is not a font.
    #[error("the embedded font cannot be read: this build of archplan is broken")]
    Font,
    /// The back end failed: the path cannot be written, most often.
    #[error("cannot draw {target}: {reason}")]
    Draw {
        /// What was being drawn.
        target: String,
        /// The back end's words.
        reason: String,
    },
}

/// Text sizes are measured with this font, whatever the viewer of the SVG has installed.
fn register_fonts() -> Result<(), RenderError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let ready = REGISTERED.get_or_init(|| {
        let regular = include_bytes!("../font/DejaVuSans.ttf");
        let bold = include_bytes!("../font/DejaVuSans-Bold.ttf");
        register_font("sans-serif", FontStyle::Normal, regular).is_ok()
            && register_font("sans-serif", FontStyle::Bold, bold).is_ok()
    });
    if *ready { Ok(()) } else { Err(RenderError::Font) }
}

/// The picture as SVG.
pub fn svg(picture: &Picture) -> Result<String, RenderError> {
    svg_of(SIZE, |root| draw::draw(root, picture, Scale(1.0)))
}

/// Whatever `paint` draws on a canvas of `size` pixels, as SVG.
pub(crate) fn svg_of(
    size: (u32, u32),
    paint: impl FnOnce(&Canvas<SVGBackend>) -> DrawnSvg,
) -> Result<String, RenderError> {
    register_fonts()?;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        paint(&root).and_then(|()| root.present()).map_err(|e| failed("the SVG", e))?;
    }
    Ok(text.replace("font-family=\"sans-serif\"", "font-family=\"DejaVu Sans, Verdana, sans-serif\""))
}

/// Writes the picture as PNG to `path`: whole or not at all. Missing folders are made, as for the SVG.
pub fn png(picture: &Picture, path: &Path) -> Result<(), RenderError> {
    register_fonts()?;
    let (width, height) = (SIZE.0 * OVERSAMPLE, SIZE.1 * OVERSAMPLE);
    let mut pixels = vec![0; (width * height * 3) as usize];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw::draw(&root, picture, Scale(f64::from(OVERSAMPLE))).map_err(|e| failed("the PNG", e))?;
    }
    let target = path.display().to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let staged = path.with_file_name(format!(".{name}.{}.part.png", std::process::id()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| failed(&target, e))?;
    }
    let drawn = {
        let mut file = BitMapBackend::new(&staged, SIZE);
        file.blit_bitmap((0, 0), SIZE, &average(&pixels)).and_then(|()| file.present())
    };
    let moved = drawn
        .map_err(|e| failed(&target, e))
        .and_then(|()| std::fs::rename(&staged, path).map_err(|e| failed(&target, e)));
    moved.inspect_err(|_| {
        let _ = std::fs::remove_file(&staged);
    })
}

fn failed(target: &str, reason: impl std::fmt::Display) -> RenderError {
    RenderError::Draw { target: target.to_string(), reason: reason.to_string() }
}

/// Mean of each `OVERSAMPLE` x `OVERSAMPLE` block of RGB pixels.
fn average(pixels: &[u8]) -> Vec<u8> {
    let (columns, n) = ((SIZE.0 * OVERSAMPLE) as usize, OVERSAMPLE as usize);
    let sample = |x: usize, y: usize, channel: usize| {
        pixels.get((y * columns + x) * 3 + channel).copied().map_or(0, u32::from)
    };
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let mut out = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let block = (0..n * n).map(|i| sample(x * n + i % n, y * n + i / n, channel));
                out.push((block.sum::<u32>() / (OVERSAMPLE * OVERSAMPLE)) as u8);
            }
        }
    }
    out
}
