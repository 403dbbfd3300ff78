// SPDX-License-Identifier: GPL-2.0-only

//! `man`: the man page. Synopsis, options and commands come from the definition in
//! [`crate::args`], the prose from `tapctl.md`.
//!
//! One page for all commands, as `ip-link(8)` has it: who looks for an option searches once.

use super::Context;
use crate::args;
use crate::failure::Failure;
use clap_mangen::roff::{bold, roman, Inline, Roff};
use clap_mangen::Man;
use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};
use std::io::{self, Write};

/// The prose.
pub const PROSE: &str = include_str!("../../tapctl.md");
/// Sections of the prose that the definition says better.
const GENERATED: [&str; 1] = ["Commands"];

/// `man`.
pub fn man(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut page = Vec::new();
    render(&mut page).map_err(|error| Failure::io("render the man page", &error))?;
    context.out.raw(&page)
}

/// The man page in roff.
pub fn render(to: &mut dyn Write) -> io::Result<()> {
    let mut command = args::command();
    command.build();
    let man = Man::new(command.clone())
        .title("TAPCTL")
        .section("8")
        .date(super::version::DATE)
        .source(format!("nettap {}", super::version::VERSION))
        .manual("NetTap");
    man.render_title(to)?;
    man.render_name_section(to)?;
    man.render_synopsis_section(to)?;
    man.render_description_section(to)?;
    man.render_options_section(to)?;
    writeln!(to, ".SH COMMANDS")?;
    for object in command.get_subcommands().filter(|one| is_ours(one)) {
        commands(object, to)?;
    }
    prose(to)
}

/// The `help` that clap adds to every object explains itself.
fn is_ours(command: &clap::Command) -> bool {
    command.get_name() != "help"
}

/// A command's part of the page, or those of an object's commands.
fn commands(command: &clap::Command, to: &mut dyn Write) -> io::Result<()> {
    if command.has_subcommands() {
        for command in command.get_subcommands().filter(|one| is_ours(one)) {
            commands(command, to)?;
        }
        return Ok(());
    }
    // Options of every command have their section, and `--help` needs no explanation in each.
    let command = command.clone().mut_args(|arg| {
        let everywhere = arg.is_global_set() || arg.get_id() == "help";
        if everywhere {
            arg.hide(true)
        } else {
            arg
        }
    });
    let name = command.get_bin_name().unwrap_or(command.get_name());
    writeln!(to, ".SS \"{name}\"")?;
    let man = Man::new(command.clone());
    part(to, |part| man.render_description_section(part))?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        part(to, |part| man.render_options_section(part))?;
    }
    Ok(())
}

/// What the renderer of a section writes, without the heading of the section and what is before it.
fn part(
    to: &mut dyn Write,
    section: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut text = Vec::new();
    section(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let body = text
        .lines()
        .skip_while(|line| !line.starts_with(".SH"))
        .skip(1);
    // Between its paragraphs clap_mangen puts an empty line, which is space and breaks the line, and a
    // line break before and after it. Formatters complain about both.
    let body: Vec<&str> = body.collect();
    for (nth, line) in body.iter().enumerate() {
        let empty = |other: Option<&&str>| other.is_some_and(|line| line.is_empty());
        let before = nth.checked_sub(1).and_then(|nth| body.get(nth));
        match *line {
            "" => writeln!(to, ".sp")?,
            ".br" if empty(before) || empty(body.get(nth + 1)) => {}
            line => writeln!(to, "{line}")?,
        }
    }
    Ok(())
}

/// The sections of [`PROSE`] in roff.
fn prose(to: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    let mut line: Vec<Inline> = Vec::new();
    let mut heading = None;
    let mut wanted = false;
    let mut in_code = false;
    // A heading begins a paragraph.
    let mut begun = false;
    for event in Parser::new(PROSE) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                heading = Some((level, String::new()));
            }
            Event::End(TagEnd::Heading(_)) => {
                let (level, title) = heading.take().unwrap_or((HeadingLevel::H1, String::new()));
                match level {
                    // The title and what introduces it are the page's NAME and DESCRIPTION.
                    HeadingLevel::H1 => wanted = false,
                    HeadingLevel::H2 => {
                        wanted = !GENERATED.contains(&title.as_str());
                        if wanted {
                            roff.control("SH", [title.to_uppercase().as_str()]);
                        }
                    }
                    _ if wanted => {
                        roff.control("SS", [title.as_str()]);
                    }
                    _ => {}
                }
                begun = true;
            }
            Event::Text(text) | Event::Code(text) if heading.is_some() => {
                if let Some((_, title)) = &mut heading {
                    title.push_str(&text);
                }
            }
            _ if !wanted => {}
            Event::Start(Tag::Paragraph) if begun => begun = false,
            Event::Start(Tag::Paragraph) => {
                roff.control("PP", []);
            }
            Event::Start(Tag::Item) => {
                roff.control("IP", ["\\(bu", "2"]);
            }
            Event::Start(Tag::CodeBlock(_)) => {
                in_code = true;
                roff.control("PP", []);
                roff.control("RS", ["4"]);
                roff.control("nf", []);
            }
            Event::End(TagEnd::CodeBlock) => {
                in_code = false;
                roff.control("fi", []);
                roff.control("RE", []);
            }
            Event::Text(text) if in_code => {
                for line in text.lines() {
                    roff.text([roman(line)]);
                }
            }
            Event::Text(text) => line.push(roman(text.as_ref())),
            Event::Code(text) => line.push(bold(text.as_ref())),
            Event::SoftBreak => line.push(roman(" ")),
            Event::End(TagEnd::Paragraph | TagEnd::Item) if !line.is_empty() => {
                roff.text(std::mem::take(&mut line));
            }
            _ => {}
        }
    }
    // The preamble that the renderer of the title has written already.
    let text = roff.render();
    for line in text.lines().skip_while(|line| !line.starts_with(".SH")) {
        writeln!(to, "{line}")?;
    }
    Ok(())
}
