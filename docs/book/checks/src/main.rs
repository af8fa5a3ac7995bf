//! `millstream-book preprocess` is the book's preprocessor; `millstream-book check SITE` checks the links of the built site.

use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use millstream_book::{reference, site};
use serde_json::Value;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["preprocess", "supports", _renderer] => Ok(ExitCode::SUCCESS),
        ["preprocess"] => preprocess().map(|()| ExitCode::SUCCESS),
        ["check", folder] => check(Path::new(folder)),
        _ => {
            eprintln!("usage: millstream-book preprocess | check SITE");
            Ok(ExitCode::from(2))
        }
    }
}

/// mdBook sends its context and the book, and takes the book back.
fn preprocess() -> Result<(), Box<dyn Error>> {
    let mut input = String::new();
    io::stdin().read_to_string(&mut input)?;
    let [context, mut book]: [Value; 2] = serde_json::from_str(&input)?;
    let root = PathBuf::from(context["root"].as_str().ok_or("mdBook named no root")?);
    let repository = root.join("../..");

    let mut chapters = Vec::new();
    walk(&mut book["items"], &mut |chapter| {
        chapters.extend(chapter["path"].as_str().map(PathBuf::from));
        Ok(())
    })?;
    let places = reference::places(&root.join("src"), &chapters)?;
    walk(&mut book["items"], &mut |chapter| {
        let path = chapter["path"].as_str().map(PathBuf::from);
        let Some((page, place)) = places.iter().find(|(_, place)| path.as_ref() == Some(place)) else {
            return Ok(());
        };
        let text = fs::read_to_string(repository.join(page))?;
        chapter["content"] = reference::translate(&text, page, place, &places).into();
        Ok(())
    })?;
    Ok(io::stdout().write_all(serde_json::to_string(&book)?.as_bytes())?)
}

type Visit<'a> = &'a mut dyn FnMut(&mut Value) -> io::Result<()>;

/// Every chapter, those below others too.
fn walk(items: &mut Value, visit: Visit<'_>) -> io::Result<()> {
    for item in items.as_array_mut().into_iter().flatten() {
        let Some(chapter) = item.get_mut("Chapter") else { continue };
        visit(chapter)?;
        walk(&mut chapter["sub_items"], visit)?;
    }
    Ok(())
}

fn check(folder: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let (broken, count) = site::check(folder)?;
    for link in &broken {
        eprintln!("leads nowhere: {link}");
    }
    eprintln!("{count} links, {} broken", broken.len());
    Ok(if broken.is_empty() && count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
