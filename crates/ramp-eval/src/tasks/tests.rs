//! Files in all their forms, good and broken.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::*;

const PIQA: &str = r#"{"goal":"dresser","sol1":"replace drawer with pin ","sol2":"finisé"}"#;
const HELLASWAG: &str = r#"{"ind":24,"activity_label":"Roof","ctx_a":"A man sits. [title]","ctx_b":"he IS","ctx":"x","label":"3","endings":["is  up.","b","c"," d [x]"]}"#;
const WINOGRANDE: &str = r#"{"qID":"1","sentence":"The cup beat the _ , as it did.","option1":"mug","option2":"jar","answer":"2"}"#;
const ARC: &str = r#"{"id":"M","question":{"stem":"What?","choices":[{"text":"a","label":"1"},{"text":"bb","label":"2"},{"text":"c","label":"3"}]},"answerKey":"2"}"#;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn read(task: Task, text: &str) -> Result<Vec<Item>> {
    let folder = Folder::new();
    let path = folder.write("data.jsonl", text.as_bytes());
    task.read(&path, None, None)
}

#[track_caller]
fn refused(task: Task, text: &str, parts: &[&str]) {
    let error = read(task, text).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

fn request(context: &str, continuation: &str) -> Request {
    Request { context: context.into(), continuation: continuation.into() }
}

#[test]
fn piqa_with_labels_in_a_file_or_in_the_row() {
    let folder = Folder::new();
    folder.write("piqa/valid.jsonl", format!("{PIQA}\n{PIQA}\n").as_bytes());
    folder.write("piqa/valid-labels.lst", b"1\n0\n");
    let items = Task::Piqa.load(folder.0.path(), None).unwrap();
    assert_eq!(items.iter().map(|item| (item.index, item.gold)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    let context = "Question: dresser\nAnswer:";
    assert_eq!(
        items[0].requests,
        [request(context, " replace drawer with pin "), request(context, " finisé")]
    );
    // Characters, not bytes; the space at the end counts, the one in front does not.
    assert_eq!(items[0].lengths, [24, 6]);
    assert_eq!(Task::Piqa.load(folder.0.path(), Some(1)).unwrap(), items[..1]);
    let row = PIQA.replace("\"goal\"", "\"label\":1,\"goal\"");
    assert_eq!(read(Task::Piqa, &row).unwrap()[0], items[0]);
}

#[test]
fn hellaswag_is_preprocessed() {
    let items = read(Task::HellaSwag, HELLASWAG).unwrap();
    assert_eq!(items[0].gold, 3);
    let context = "Roof: A man sits.. He is";
    let continuations = [" is up.", " b", " c", " d "].map(|text| request(context, text));
    assert_eq!(items[0].requests, continuations);
    assert_eq!(items[0].lengths, [6, 1, 1, 2]);
    let query = r#"{"query":"Roof: A man. he IS","label":0,"endings":["a","b","c","d"]}"#;
    assert_eq!(read(Task::HellaSwag, query).unwrap()[0].requests[0], request("Roof: A man. he IS", " a"));
}

#[test]
fn winogrande_scores_what_follows_the_gap() {
    let items = read(Task::WinoGrande, WINOGRANDE).unwrap();
    let continuation = " , as it did.";
    assert_eq!(
        items[0].requests,
        [request("The cup beat the mug", continuation), request("The cup beat the jar", continuation)]
    );
    assert_eq!(items[0].gold, 1);
    // The release without answers in the rows.
    let folder = Folder::new();
    let bare = WINOGRANDE.replace(",\"answer\":\"2\"", "");
    folder.write("winogrande_1.1/dev.jsonl", bare.as_bytes());
    folder.write("winogrande_1.1/dev-labels.lst", b"2\n");
    assert_eq!(Task::WinoGrande.load(folder.0.path(), None).unwrap(), items);
}

#[test]
fn arc_in_both_forms() {
    let items = read(Task::ArcEasy, ARC).unwrap();
    let context = "Question: What?\nAnswer:";
    assert_eq!(items[0].requests, [" a", " bb", " c"].map(|text| request(context, text)));
    assert_eq!((items[0].gold, items[0].lengths.as_slice()), (1, &[1, 2, 1][..]));
    let columns =
        r#"{"question":"What?","choices":{"text":["a","bb","c"],"label":["A","B","C"]},"answerKey":"B"}"#;
    assert_eq!(read(Task::ArcChallenge, columns).unwrap(), items);
}

#[test]
fn a_label_must_be_there_and_be_a_choice() {
    refused(Task::Piqa, PIQA, &["data.jsonl: line 1: no label", "`label`"]);
    refused(Task::WinoGrande, &WINOGRANDE.replace("\"2\"", "\"\""), &["line 1: no label", "`answer`"]);
    refused(Task::WinoGrande, &WINOGRANDE.replace("\"2\"", "\"3\""), &["`answer` is 3, expected 1 to 2"]);
    refused(Task::HellaSwag, &HELLASWAG.replace("\"3\"", "\"four\""), &["`label` is \"four\""]);
    refused(Task::HellaSwag, &HELLASWAG.replace("\"3\"", "[3]"), &["`label` is a list"]);
    refused(Task::HellaSwag, &HELLASWAG.replace("\"3\"", "-1"), &["`label` is -1, expected 0 to 3"]);
    refused(Task::ArcEasy, &ARC.replace("\"answerKey\":\"2\"", "\"answerKey\":\"E\""), &["\"E\"", "1, 2, 3"]);

    let folder = Folder::new();
    let data = folder.write("d.jsonl", format!("{PIQA}\n{PIQA}\n").as_bytes());
    let labels = folder.write("d.lst", b"1\n");
    let error = Task::Piqa.read(&data, Some(&labels), Some(1)).unwrap_err().to_string();
    assert!(error.contains("d.lst: 1 labels for 2 rows of"), "{error}");
    for (bad, part) in [("1\n2\n", "line 2: label \"2\", expected 0 to 1"), ("x\n1\n", "line 1: label \"x\"")]
    {
        fs::write(&labels, bad).unwrap();
        let error = Task::Piqa.read(&data, Some(&labels), None).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn choices_are_counted() {
    let five = HELLASWAG.replace("\"b\"", "\"b\",\"e\"");
    refused(Task::HellaSwag, &five, &["line 1: 5 choices, hellaswag has 4"]);
    refused(Task::Piqa, &PIQA.replace("\"sol1\"", "\"sol3\":\"x\",\"sol1\""), &["3 choices, piqa has 2"]);
    refused(
        Task::ArcEasy,
        &ARC.replace(r#"{"text":"a","label":"1"},"#, ""),
        &["2 choices, arc_easy has 3 to 5"],
    );
    let three = WINOGRANDE.replace("\"answer\"", "\"option3\":\"x\",\"answer\"");
    refused(Task::WinoGrande, &three, &["3 choices, winogrande has 2"]);
}

#[test]
fn files_of_another_task() {
    refused(Task::Piqa, HELLASWAG, &["line 1: is a row of hellaswag, expected piqa"]);
    refused(Task::HellaSwag, WINOGRANDE, &["is a row of winogrande, expected hellaswag"]);
    refused(Task::WinoGrande, ARC, &["is a row of arc_easy, expected winogrande"]);
    refused(Task::ArcChallenge, PIQA, &["is a row of piqa, expected arc_challenge"]);
    refused(Task::ArcChallenge, "{\"a\":1}", &["`question` is missing"]);
}

#[test]
fn broken_files() {
    refused(Task::Piqa, " \n\n", &["data.jsonl: is empty"]);
    refused(Task::Piqa, "{\"goal\":", &["line 1: not a JSON object"]);
    refused(Task::Piqa, "\n[1]", &["line 2: not a JSON object"]);
    refused(Task::Piqa, r#"{"goal":"g","sol1":"s"}"#, &["`sol2` is missing"]);
    refused(Task::Piqa, r#"{"goal":7,"sol1":"s"}"#, &["`goal` is a number, expected a text"]);
    refused(
        Task::HellaSwag,
        &HELLASWAG.replace("\"b\"", "2"),
        &["`endings` holds something that is no text"],
    );
    refused(Task::HellaSwag, r#"{"endings":"x","query":"q"}"#, &["`endings` is a text, expected a list"]);
    refused(Task::HellaSwag, r#"{"endings":[]}"#, &["`activity_label` is missing"]);
    refused(Task::WinoGrande, &WINOGRANDE.replace('_', "-"), &["`sentence` has no gap"]);
    refused(
        Task::ArcEasy,
        r#"{"question":{"stem":"q"},"answerKey":"A"}"#,
        &["`question.choices` is missing"],
    );
    refused(
        Task::ArcEasy,
        r#"{"question":"q","choices":{"text":["a"],"label":["A","B"]},"answerKey":"A"}"#,
        &["`choices` has 2 labels and 1 texts"],
    );
    let folder = Folder::new();
    let latin = folder.write("latin.jsonl", b"{\"goal\":\"caf\xe9\"}");
    let error = Task::Piqa.read(&latin, None, None).unwrap_err().to_string();
    assert!(error.contains("latin.jsonl: is not UTF-8 at byte 12"), "{error}");
    let error = Task::Piqa.read(&folder.0.path().join("no"), None, None).unwrap_err().to_string();
    assert!(error.contains("/no: "), "{error}");
    let error = Task::ArcEasy.load(folder.0.path(), None).unwrap_err().to_string();
    assert!(error.contains("no file of arc_easy (tried arc/ARC-Easy-Test.jsonl"), "{error}");
    let error = "boolq".parse::<Task>().unwrap_err().to_string();
    assert!(error.contains("unknown task `boolq`"), "{error}");
}
