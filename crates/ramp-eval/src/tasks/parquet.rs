//! Rows of a parquet file, as Hugging Face stores data sets, in the form of JSON lines.

use std::{fs::File, path::Path};

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Every row with its number, from 1. A column is a field, a list is an array.
pub(super) fn rows(path: &Path) -> Result<Vec<(usize, Map<String, Value>)>> {
    let fail = |error: parquet::errors::ParquetError| Error::Parquet {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let file = File::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let reader = SerializedFileReader::new(file).map_err(fail)?;
    let mut rows = Vec::new();
    for (index, row) in reader.get_row_iter(None).map_err(fail)?.enumerate() {
        let Value::Object(fields) = row.map_err(fail)?.to_json_value() else { continue };
        rows.push((index + 1, fields));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, sync::Arc};

    use parquet::{
        basic::Compression,
        data_type::{ByteArray, ByteArrayType, Int64Type},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use crate::tasks::{Item, Task};

    enum Column {
        Int(Vec<i64>),
        Text(Vec<&'static str>),
        Lists(Vec<Vec<&'static str>>),
    }
    use Column::{Int, Lists, Text};

    /// Writes a file as pyarrow does: every field optional, snappy.
    fn write(path: &PathBuf, fields: &str, columns: Vec<Column>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let schema = Arc::new(parse_message_type(&format!("message schema {{ {fields} }}")).unwrap());
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut out = group.next_column().unwrap().unwrap();
            match column {
                Int(values) => {
                    let levels = vec![1; values.len()];
                    out.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Text(values) => {
                    let levels = vec![1; values.len()];
                    let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
                    out.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Lists(lists) => {
                    let repeats: Vec<i16> =
                        lists.iter().flat_map(|list| (0..list.len()).map(|i| i16::from(i > 0))).collect();
                    let values: Vec<ByteArray> = lists.concat().into_iter().map(ByteArray::from).collect();
                    let typed = out.typed::<ByteArrayType>();
                    let levels = vec![typed.get_descriptor().max_def_level(); values.len()];
                    typed.write_batch(&values, Some(&levels), Some(&repeats)).unwrap();
                }
            }
            out.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    fn text(name: &str) -> String {
        format!("optional binary {name} (UTF8); ")
    }

    fn list(name: &str) -> String {
        format!(
            "optional group {name} (LIST) {{ repeated group list {{ optional binary element (UTF8); }} }} "
        )
    }

    /// The same rows as JSON lines.
    fn lines(task: Task, text: &str) -> Vec<Item> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        fs::write(&path, text).unwrap();
        task.read(&path, None, None).unwrap()
    }

    #[test]
    fn the_columns_of_hugging_face_are_those_of_json_lines() {
        let folder = tempfile::tempdir().unwrap();
        let load = |task: Task| task.load(folder.path(), None).unwrap();
        let path = |name: &str| folder.path().join(name);

        write(
            &path("piqa/plain_text/validation-00000-of-00001.parquet"),
            &(text("goal") + &text("sol1") + &text("sol2") + "optional int64 label;"),
            vec![Text(vec!["g", "h"]), Text(vec!["é", "b"]), Text(vec!["c", "d"]), Int(vec![1, 0])],
        );
        let expected = lines(
            Task::Piqa,
            "{\"goal\":\"g\",\"sol1\":\"é\",\"sol2\":\"c\",\"label\":1}\n{\"goal\":\"h\",\"sol1\":\"b\",\"sol2\":\"d\",\"label\":0}",
        );
        assert_eq!(load(Task::Piqa), expected);

        write(
            &path("hellaswag/data/validation-00000-of-00001.parquet"),
            &(text("activity_label") + &text("ctx_a") + &text("ctx_b") + &list("endings") + &text("label")),
            vec![
                Text(vec!["Roof"]),
                Text(vec!["A man sits."]),
                Text(vec!["he"]),
                Lists(vec![vec!["a", "b", "c", "d"]]),
                Text(vec!["3"]),
            ],
        );
        let expected = lines(
            Task::HellaSwag,
            r#"{"activity_label":"Roof","ctx_a":"A man sits.","ctx_b":"he","endings":["a","b","c","d"],"label":"3"}"#,
        );
        assert_eq!(load(Task::HellaSwag), expected);

        write(
            &path("winogrande/winogrande_xl/validation-00000-of-00001.parquet"),
            &["sentence", "option1", "option2", "answer"].map(text).concat(),
            vec![Text(vec!["The _ is big."]), Text(vec!["cup"]), Text(vec!["jar"]), Text(vec!["2"])],
        );
        let expected = lines(
            Task::WinoGrande,
            r#"{"sentence":"The _ is big.","option1":"cup","option2":"jar","answer":"2"}"#,
        );
        assert_eq!(load(Task::WinoGrande), expected);

        let choices = format!("optional group choices {{ {} {} }} ", list("text"), list("label"));
        let columns = || {
            vec![
                Text(vec!["Why?", "How?"]),
                Lists(vec![vec!["a", "b", "c"], vec!["d", "e", "f", "g"]]),
                Lists(vec![vec!["A", "B", "C"], vec!["1", "2", "3", "4"]]),
                Text(vec!["B", "4"]),
            ]
        };
        let fields = text("question") + &choices + &text("answerKey");
        for (task, folder) in [(Task::ArcEasy, "ARC-Easy"), (Task::ArcChallenge, "ARC-Challenge")] {
            write(&path(&format!("ai2_arc/{folder}/test-00000-of-00001.parquet")), &fields, columns());
            let items = load(task);
            assert_eq!(
                items.iter().map(|item| (item.requests.len(), item.gold)).collect::<Vec<_>>(),
                [(3, 1), (4, 3)]
            );
            assert_eq!(items[0].requests[2].continuation, " c");
        }
    }

    #[test]
    fn broken_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let fields = text("goal") + &text("sol1") + &text("sol2") + "optional int64 label;";
        write(&path, &fields, vec![Text(vec!["g"]), Text(vec!["a"]), Text(vec!["b"]), Int(vec![7])]);
        let error = |task: Task| task.read(&path, None, None).unwrap_err().to_string();
        assert!(error(Task::Piqa).contains("x.parquet: line 1: `label` is 7, expected 0 to 1"));
        assert!(error(Task::HellaSwag).contains("is a row of piqa, expected hellaswag"));
        let whole = fs::read(&path).unwrap();
        for len in [0, 3, 9, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            let message = error(Task::Piqa);
            assert!(message.contains("x.parquet: not a readable parquet file: "), "{message}");
        }
    }
}
